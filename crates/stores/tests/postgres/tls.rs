//! `sslmode` and `sslrootcert` as libpq means them, against a server that takes nothing but TLS.

use whimbrel_model::{Code, StoreErrorKind};
use whimbrel_stores::OpenOptions;
use whimbrel_testkit::servers::server;

/// A certificate authority that signed nothing.
const STRANGER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/stranger.crt");

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_trusts_as_much_as_it_says() {
    let Some(url) = server("WHIMBREL_TEST_POSTGRES_TLS") else {
        return;
    };
    let (place, query) = url.split_once('?').unwrap();
    let root = query
        .split('&')
        .find_map(|p| p.strip_prefix("sslrootcert="))
        .unwrap();
    let (login, rest) = place.rsplit_once('@').unwrap();
    let (host_port, database) = rest.split_once('/').unwrap();
    let (host, port) = host_port.split_once(':').unwrap();
    let address = tokio::net::lookup_host(host_port)
        .await
        .unwrap()
        .find(std::net::SocketAddr::is_ipv4);
    let address = address.unwrap().ip();
    // The same server under a name that its certificate does not have.
    let renamed = format!("{login}@elsewhere.example:{port}/{database}?hostaddr={address}");
    let named = format!("{login}@{host}:{port}/{database}?");
    let good = format!("sslrootcert={root}");
    let bad = format!("sslrootcert={STRANGER}");
    let cases = [
        (&named, "sslmode=verify-full", Some(&good), true),
        (&renamed, "sslmode=verify-full", Some(&good), false),
        (&renamed, "sslmode=verify-ca", Some(&good), true),
        (&named, "sslmode=verify-full", Some(&bad), false),
        (&named, "sslmode=verify-ca", Some(&bad), false),
        (&named, "sslmode=require", Some(&bad), false),
        (&renamed, "sslmode=require", Some(&good), true),
        (&renamed, "sslmode=require", None, true),
        (&renamed, "sslmode=prefer", None, true),
        (&named, "sslmode=verify-full", None, false),
        (&named, "sslmode=disable", None, false),
    ];
    for (place, mode, root, works) in cases {
        let url = format!("{place}&{mode}&{}", root.map_or("", String::as_str));
        let case = format!("{mode} {root:?} {}", place.contains("elsewhere"));
        match whimbrel_stores::open(&url, &OpenOptions::default()).await {
            Ok(store) => {
                assert!(works, "{case}");
                store.collections().await.unwrap();
            }
            Err(error) => {
                assert!(!works, "{case}: {error}: {:?}", error.source);
                assert_eq!(error.kind, StoreErrorKind::Terminal, "{case}: {error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied_and_not_told() {
    let Some(url) = server("WHIMBREL_TEST_POSTGRES_TLS") else {
        return;
    };
    let (login, rest) = url.rsplit_once('@').unwrap();
    let user = login
        .trim_start_matches("postgres://")
        .split(':')
        .next()
        .unwrap();
    let url = format!("postgres://{user}:wrong4711@{rest}");
    let error = whimbrel_stores::open(&url, &OpenOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Terminal, Code::StoreDenied),
        "{error}"
    );
    assert!(!format!("{error}{error:?}").contains("4711"), "{error:?}");
}
