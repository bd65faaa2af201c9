//! One list of cases, run against every store that can be served.
//!
//! PostgreSQL is the server that `WHIMBREL_TEST_POSTGRES` names; without it its tests fail, unless
//! `WHIMBREL_TEST_WITHOUT_SERVERS=1` says that this is meant.
#![cfg(all(feature = "firestore", feature = "sqlite"))]

mod documents;
mod foreign;
mod history;
mod indexes;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;
mod subject;
mod triggers;
mod views;
mod walks;

/// One test a case for one store.
macro_rules! run_cases {
    ($open:path; $($group:ident: $($case:ident),+;)+) => {
        $(mod $group {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(subject) = $open().await {
                    crate::$group::$case(subject).await;
                }
            })+
        })+
    };
}

/// What every store is held to.
macro_rules! cases {
    ($open:path) => {
        run_cases! {
            $open;
            documents: written_and_read, every_value_survives, names_of_all_kinds, collections_whose_names_differ_in_case,
                a_large_document, many_in_one_commit, what_is_decided_sees_what_is_there, a_commit_out_of_order_writes_nothing,
                deletes_of_what_is_not_there;
            views: stay_as_they_are, see_one_moment_at_all_times, list_collections, many_at_once;
            walks: bounds_of_every_kind, pages, along_an_index, without_documents, of_what_is_not_there,
                a_collection_is_walked_by_the_bytes_of_its_keys;
            history: as_of_every_commit, several_times_in_one_commit, changes_between_two_times, changes_by_pages,
                deleted_and_made_again, forgotten;
            indexes: are_made_once, lines_come_and_go, lines_without_documents, views_see_their_lines;
            model: agrees;
        }
    };
}

/// What stores are held to whose tables others write, and that outlive their process.
macro_rules! sql_cases {
    ($open:path) => {
        run_cases! {
            $open;
            foreign: own_commits_are_not, every_statement_is_noted, times_of_what_others_write, keys_that_change,
                nothing_changed, settled_once, by_pages, plain_json_is_read, a_row_that_is_no_document,
                views_and_history_include_them, commits_late, a_statement_that_is_rolled_back, between_two_lives, of_a_new_table;
            documents: outlive_their_process, rows_from_before;
            triggers: what_own_writes_set_off, what_they_make_of_a_document, a_write_that_they_ignore;
        }
    };
}

mod memory {
    cases!(crate::subject::memory);
}

mod sqlite_file {
    cases!(crate::subject::sqlite);
    mod sql {
        sql_cases!(crate::subject::sqlite);
    }
}

#[cfg(feature = "postgres")]
mod postgres_server {
    cases!(crate::subject::postgres);
    mod sql {
        sql_cases!(crate::subject::postgres);
    }
}
