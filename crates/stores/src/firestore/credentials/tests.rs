use super::*;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// Made for these tests; it opens nothing.
const KEY: &str = include_str!("test-key.pem");
/// What must never be shown.
const SECRET: &str = "hunter2";

/// Answers one request after the other, and tells what was asked.
struct Fake {
    host: String,
    asked: Receiver<String>,
}

fn fake(answers: Vec<(u16, String)>) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            tell.send(request(&mut stream)).unwrap();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} -\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    Fake { host, asked }
}

fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut part = [0; 1024];
    loop {
        let read = stream.read(&mut part).unwrap();
        text.extend_from_slice(&part[..read]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            return so_far;
        }
    }
}

fn answer(token: &str, seconds: u64) -> (u16, String) {
    let body =
        format!(r#"{{"access_token":"{token}","expires_in":{seconds},"token_type":"Bearer"}}"#);
    (200, body)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn user(host: &str) -> tempfile::NamedTempFile {
    let text = serde_json::json!({
        "type": "authorized_user", "client_id": "me+you", "client_secret": SECRET,
        "refresh_token": "1//hunter2&x", "quota_project_id": "payer",
        "token_uri": format!("http://{host}/token"),
    });
    file(&text.to_string())
}

fn account() -> tempfile::NamedTempFile {
    let text = serde_json::json!({
        "type": "service_account", "client_email": "me@p.example", "private_key": KEY,
        "private_key_id": "k1", "project_id": "p", "token_uri": "https://never.asked",
    });
    file(&text.to_string())
}

fn find(around: Environment) -> Result<Credentials, StoreError> {
    let address = Address::parse("firestore://p", None).unwrap();
    Credentials::find(&address, around)
}

fn named(file: &tempfile::NamedTempFile) -> Environment {
    Environment {
        file: Some(file.path().to_owned()),
        ..Environment::default()
    }
}

#[tokio::test]
async fn a_service_account_signs_its_own_token() {
    let credentials = find(named(&account())).unwrap();
    let token = credentials.token().await.unwrap();
    assert_eq!(token, credentials.token().await.unwrap(), "kept");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let key = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
        .verify(
            signed.as_bytes(),
            &URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
    let part = |text: &str| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    let (header, claims) = signed.split_once('.').unwrap();
    let expect = serde_json::json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" });
    assert_eq!(part(header), expect);
    let claims = part(claims);
    assert_eq!(claims["iss"], "me@p.example");
    assert_eq!(claims["sub"], "me@p.example");
    assert_eq!(claims["aud"], "https://firestore.googleapis.com/");
    let [from, to] = ["iat", "exp"].map(|name| claims[name].as_u64().unwrap());
    assert_eq!(to - from, 3600);
}

#[tokio::test]
async fn a_users_token_is_fetched_kept_and_renewed() {
    // The second is of no use any more when it comes.
    let fake = fake(vec![
        answer("one", 3600),
        answer("two", 0),
        answer("three", 60),
    ]);
    let credentials = find(named(&user(&fake.host))).unwrap();
    assert_eq!(credentials.quota_project.as_deref(), Some("payer"));
    let (a, b) = tokio::join!(credentials.token(), credentials.token());
    assert_eq!((a.unwrap(), b.unwrap()), ("one".into(), "one".into()));
    let asked = fake.asked.recv().unwrap();
    assert!(asked.starts_with("POST /token "), "{asked}");
    let body = asked.split_once("\r\n\r\n").unwrap().1;
    assert!(body.contains("grant_type=refresh_token"), "{body}");
    assert!(body.contains("client_id=me%2Byou"), "{body}");
    assert!(body.contains("refresh_token=1%2F%2Fhunter2%26x"), "{body}");
    credentials.forget(b"another").await;
    assert_eq!(credentials.token().await.unwrap(), "one");
    credentials.forget(b"one").await;
    assert_eq!(credentials.token().await.unwrap(), "two");
    assert_eq!(credentials.token().await.unwrap(), "three");
}

/// A renewal that fails is tried again only after a pause; nobody waits for it meanwhile.
#[tokio::test]
async fn a_token_that_is_still_good_tides_over() {
    let fake = fake(vec![
        answer("one", 60),
        (503, String::new()),
        answer("two", 60),
    ]);
    let credentials = find(named(&user(&fake.host))).unwrap();
    let due = async || {
        credentials.kept.lock().await.as_mut().unwrap().renew_at = Instant::now();
    };
    assert_eq!(credentials.token().await.unwrap(), "one");
    due().await;
    for _ in 0..3 {
        assert_eq!(credentials.token().await.unwrap(), "one");
    }
    assert_eq!(
        fake.asked.try_iter().count(),
        2,
        "asked once more, not thrice"
    );
    due().await;
    assert_eq!(credentials.token().await.unwrap(), "two");
}

/// While one caller renews a token that is still good, the others are not held up.
#[tokio::test]
async fn nobody_waits_for_a_renewal_who_has_a_token() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let credentials = find(named(&user(&host))).unwrap();
    let now = Instant::now();
    *credentials.kept.lock().await = Some(Kept {
        token: "one".into(),
        renew_at: now,
        ends_at: now + Duration::from_secs(60),
    });
    let renewal = credentials.token();
    let other = async {
        // Behind the renewal, which has the lock first.
        tokio::task::yield_now().await;
        credentials.token().await
    };
    tokio::select! {
        biased;
        _ = renewal => panic!("nobody answers it"),
        token = other => assert_eq!(token.unwrap(), "one"),
    }
}

#[tokio::test]
async fn without_a_file_the_machines_own_account_is_asked() {
    let fake = fake(vec![answer("machine", 3600)]);
    let around = Environment {
        metadata: Some(fake.host.clone()),
        gcloud: Some("/no/such/file".into()),
        ..Environment::default()
    };
    let credentials = find(around).unwrap();
    assert_eq!(credentials.token().await.unwrap(), "machine");
    let asked = fake.asked.recv().unwrap();
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    assert!(asked.starts_with(&format!("GET {path} ")), "{asked}");
    assert!(
        asked
            .to_ascii_lowercase()
            .contains("metadata-flavor: google"),
        "{asked}"
    );
}

#[tokio::test]
async fn the_nearer_file_is_taken() {
    let fake = fake(vec![answer("far", 3600), answer("near", 3600)]);
    let (user, account) = (user(&fake.host), account());
    let gcloud = Environment {
        gcloud: Some(user.path().to_owned()),
        ..Environment::default()
    };
    assert_eq!(find(gcloud).unwrap().token().await.unwrap(), "far");
    let both = Environment {
        gcloud: Some(user.path().to_owned()),
        ..named(&account)
    };
    let signed = find(both).unwrap().token().await.unwrap();
    assert_eq!(signed.split('.').count(), 3);
    let url = format!("firestore://p?credentials={}", user.path().display());
    let address = Address::parse(&url, None).unwrap();
    let credentials = Credentials::find(&address, named(&account)).unwrap();
    assert_eq!(credentials.token().await.unwrap(), "near");
}

#[tokio::test]
async fn an_emulator_is_called_by_its_owner() {
    let address = Address::parse("firestore://p", Some("h:1".into())).unwrap();
    let missing = Environment {
        file: Some("/no/such/file".into()),
        ..Environment::default()
    };
    let credentials = Credentials::find(&address, missing).unwrap();
    assert_eq!(credentials.token().await.unwrap(), "owner");
}

#[tokio::test]
async fn trouble_is_told_without_a_secret() {
    let expect = |error: StoreError, kind, code, word: &str| {
        let text = format!("{error} {error:?}");
        assert_eq!((error.kind, error.code), (kind, code), "{text}");
        assert!(text.contains(word), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    };
    use StoreErrorKind::{Terminal, Transient};
    for (text, word) in [
        (
            r#"{"type":"authorized_user","client_secret":"hunter2","#,
            "what Google writes",
        ),
        (
            r#"{"type":"authorized_user","client_secret":"hunter2"}"#,
            "what Google writes",
        ),
        (r#"{"type":"external_account","secret":"hunter2"}"#, "kind"),
        (
            r#"{"type":"service_account","client_email":"e","private_key":"-----BEGIN PRIVATE KEY-----\nhunter2\n"}"#,
            "private key",
        ),
        (
            r#"{"type":"authorized_user","client_id":"i","client_secret":"hunter2","refresh_token":"r","token_uri":"http://hunter2.example"}"#,
            "https",
        ),
    ] {
        let error = find(named(&file(text))).unwrap_err();
        expect(error, Terminal, Code::StoreDenied, word);
    }
    let missing = Environment {
        file: Some("/no/such/file".into()),
        ..Environment::default()
    };
    expect(
        find(missing).unwrap_err(),
        Terminal,
        Code::StoreDenied,
        "/no/such/file",
    );
    for (status, body, kind, word) in [
        (400, r#"{"error":"hunter2"}"#, Terminal, "400"),
        (429, "hunter2", Transient, "429"),
        (503, "hunter2", Transient, "503"),
        (302, "hunter2", Terminal, "302"),
        (200, "hunter2", Terminal, "no token"),
        (
            200,
            r#"{"access_token":"hunter2\r\nx","expires_in":5}"#,
            Terminal,
            "no token",
        ),
        (
            200,
            r#"{"access_token":"hunter2","expires_in":-5}"#,
            Terminal,
            "no token",
        ),
    ] {
        let fake = fake(vec![(status, body.to_owned())]);
        let credentials = find(named(&user(&fake.host))).unwrap();
        assert!(!format!("{credentials:?}").contains(SECRET));
        let code = match kind {
            Transient => Code::StoreUnavailable,
            _ => Code::StoreDenied,
        };
        expect(credentials.token().await.unwrap_err(), kind, code, word);
    }
    // Who is not found or does not answer has refused nothing.
    let nowhere = Environment {
        metadata: Some("nowhere.invalid".into()),
        ..Environment::default()
    };
    let error = find(nowhere).unwrap().token().await.unwrap_err();
    expect(
        error,
        Transient,
        Code::StoreUnavailable,
        "FIRESTORE_EMULATOR_HOST",
    );
    let gone = user("127.0.0.1:1");
    let error = find(named(&gone)).unwrap().token().await.unwrap_err();
    expect(error, Transient, Code::StoreUnavailable, "signed-in user");
}
