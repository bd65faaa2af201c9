//! Single documents and lists of them.
