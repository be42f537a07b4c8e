//! The driver of a worker.
