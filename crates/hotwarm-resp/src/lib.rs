//! The Redis serialization protocol, versions 2 and 3: bytes to values and back.
