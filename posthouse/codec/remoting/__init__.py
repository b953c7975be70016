"""RocketMQ's remoting protocol: frames, commands, codes, headers, bodies."""
