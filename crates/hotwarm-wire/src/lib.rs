//! Messages between nodes as versioned, length-limited, checksummed bytes.
