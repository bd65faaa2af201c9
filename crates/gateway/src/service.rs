//! The gRPC service: takes requests apart and hands them on.
