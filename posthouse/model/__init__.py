"""The field's words as values: no bytes, no input or output, no asyncio."""
