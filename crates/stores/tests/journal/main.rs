//! One suite for every ledger backend. PostgreSQL is the server that `WHIMBREL_TEST_POSTGRES` names.

mod fixture;
mod golden;
mod leases;
mod opening;
mod preimages;
mod quarantine;
mod records;
mod requests;
