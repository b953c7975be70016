"""The remoting endpoint: one row per request code, thin handlers."""
