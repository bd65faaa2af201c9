//! One list of cases, run against every store.
//!
//! A store that needs a server is run where its variable is set (`WHIMBREL_TEST_POSTGRES=postgres://…`).
//! Where it is not, its tests fail, unless `WHIMBREL_TEST_WITHOUT_SERVERS=1` says that this is meant.

mod conformance {
    pub mod documents;
    #[cfg(feature = "firestore")]
    pub mod firestore;
    pub mod guards;
    pub mod held;
    pub mod keys;
    pub mod limits;
    #[cfg(feature = "postgres")]
    pub mod postgres;
    pub mod scans;
    pub mod snapshots;
    pub mod statements;
    pub mod subject;
    pub mod values;
}

/// One test a case for one store.
macro_rules! run_cases {
    ($open:path) => {
        run_cases! {
            $open;
            scans: ordered, ranges, resumes_after_each_key, partitions_cover_exactly, empty_collection,
                missing_collection, pages_by_bytes, counts_ranges, skewed_partitions;
            guards: every_outcome, lost_guards_leave_the_others, refused_documents_leave_the_others,
                revisions_change, concurrent_writers, one_of_two_creators_wins;
            keys: hostile_texts, integers, uuids, tuples, keys_of_another_kind;
            limits: a_full_batch, documents_at_the_limit, read_only_refuses;
            values: every_kind_survives, json_bytes_survive, hostile_strings_survive;
            held: fields_of_every_kind, typed_columns, keys_come_back;
            snapshots: one_instant, read_only, kept_apart_from_the_live_store;
            statements: all_or_nothing, counted, transactions_are_refused, errors_quote_nothing, told_where_there_are_none;
            documents: get_answers_in_order, deletes, ensure_twice, describes, several_collections;
        }
    };
    ($open:path; $($group:ident: $($case:ident),+;)+) => {
        $(mod $group {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(subject) = $open().await {
                    crate::conformance::$group::$case(&subject).await;
                }
            })+
        })+
    };
}

mod memory {
    run_cases!(crate::conformance::subject::memory);
}

#[cfg(feature = "sqlite")]
mod sqlite_json {
    run_cases!(crate::conformance::subject::sqlite_json);
}

#[cfg(feature = "sqlite")]
mod sqlite_columns {
    run_cases!(crate::conformance::subject::sqlite_columns);
}

#[cfg(feature = "sqlite")]
mod jsonl {
    run_cases!(crate::conformance::subject::jsonl);
}

#[cfg(feature = "sqlite")]
mod jsonl_zst {
    run_cases!(crate::conformance::subject::jsonl_zst);
}

#[cfg(feature = "firestore")]
mod firestore {
    run_cases!(crate::conformance::firestore::emulator);
}

#[cfg(feature = "postgres")]
mod postgres_json {
    run_cases!(crate::conformance::postgres::json);
}

#[cfg(feature = "postgres")]
mod postgres_columns {
    run_cases!(crate::conformance::postgres::columns);
}

/// Documents in a `json` column and keys in a collation of the language, in a table that an app made.
#[cfg(feature = "postgres")]
mod postgres_app {
    run_cases!(crate::conformance::postgres::app);
}

/// TLS, verified as far as the URL says.
#[cfg(feature = "postgres")]
mod postgres_tls {
    run_cases! {
        crate::conformance::postgres::tls;
        guards: every_outcome, lost_guards_leave_the_others;
        limits: a_full_batch;
    }
}
