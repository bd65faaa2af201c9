//! Listening: targets of documents and of queries, kept current from the feed.
