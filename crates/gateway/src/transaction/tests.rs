use super::*;

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(60);

fn place(name: &str) -> Place {
    Place {
        collection: "a".into(),
        key: name.into(),
    }
}

fn transactions(life: Duration, idle: Duration) -> Transactions {
    Transactions::new(Limits {
        life,
        idle,
        patience: SHORT,
    })
}

#[tokio::test]
async fn one_that_nobody_uses_expires_and_lets_go() {
    let all = transactions(LONG, SHORT);
    let idle = InUse::new(all.open(Mode::ReadWrite, None));
    let id = idle.id.bytes();
    all.lock(&idle, &[place("x")]).await.unwrap();
    std::thread::sleep(SHORT * 2);
    // A request is under way: it is not idle.
    all.expire();
    assert_eq!(all.load(), (1, 1));
    drop(idle);
    all.expire();
    assert_eq!(all.load(), (1, 1), "it was used just now");
    std::thread::sleep(SHORT * 2);
    all.expire();
    assert_eq!(all.load(), (0, 0));
    let error = all.find(&id).unwrap_err();
    assert_eq!(error.message(), EXPIRED);
}

#[tokio::test]
async fn none_lives_longer_than_it_may() {
    let all = transactions(SHORT, LONG);
    let old = InUse::new(all.open(Mode::ReadWrite, None));
    all.lock(&old, &[place("x")]).await.unwrap();
    std::thread::sleep(SHORT * 2);
    all.expire();
    assert_eq!(all.load(), (0, 0));
    assert!(all.lock(&old, &[place("y")]).await.is_err());
    assert!(all.seal(&old, &[]).await.is_err());
}

#[tokio::test]
async fn who_waits_too_long_for_a_document_is_over() {
    let all = transactions(LONG, LONG);
    let first = InUse::new(all.open(Mode::ReadWrite, None));
    let second = InUse::new(all.open(Mode::ReadWrite, None));
    all.lock(&first, &[place("x")]).await.unwrap();
    all.lock(&second, &[place("y")]).await.unwrap();
    let error = all.lock(&second, &[place("x")]).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Aborted);
    assert_eq!(all.load(), (1, 1), "its own lock is free");
    let error = all.take(&[place("x")]).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Aborted);
    // Sealed, it counts as committed until it is known how it ends, and holds its locks until then.
    let id = first.id.bytes();
    let (sealed, _) = all.seal(&first, &[place("z")]).await.unwrap();
    assert_eq!(all.load(), (0, 2));
    assert_ne!(all.find(&id).unwrap_err().message(), EXPIRED);
    all.ended(&sealed, End::Nothing);
    assert_eq!(all.find(&id).unwrap_err().message(), EXPIRED);
    drop(sealed);
    assert_eq!(all.load(), (0, 0));
}

#[test]
fn what_clients_know_them_by_says_whose_they_are() {
    let all = transactions(LONG, LONG);
    let id = all.open(Mode::ReadOnly(7), None).id;
    assert_eq!(Id::parse(&id.bytes()).unwrap(), id);
    let of_another_process = Id {
        process: id.process + 1,
        ..id
    };
    let error = all.find(&of_another_process.bytes()).unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(!error.message().contains("expired"));
    // A client cannot make itself older than all others.
    let forged = all.open(Mode::ReadWrite, Some(u64::MAX)).id;
    assert_eq!(forged.birth, forged.serial);
}
