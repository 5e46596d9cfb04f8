//! The replication log and the vote file on disk.
