//! The small disk trait that durable parts stand on, the real disk, and a disk that fails on purpose.
