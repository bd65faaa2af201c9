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

impl Transactions {
    /// One that commits, and what clients know it by.
    pub(crate) fn sealed(&self) -> (Vec<u8>, Sealed) {
        let transaction = self.open(Mode::ReadWrite, None);
        let (sealed, _) = self.seal(&transaction).unwrap();
        (transaction.id.bytes(), sealed)
    }
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
    assert!(all.seal(&old).is_err());
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
    all.lock(&first, &[place("z")]).await.unwrap();
    let (sealed, _) = all.seal(&first).unwrap();
    assert_eq!(all.load(), (0, 2));
    assert_ne!(all.find(&id).unwrap_err().message(), EXPIRED);
    sealed.ended(End::Nothing);
    assert_eq!(all.find(&id).unwrap_err().message(), EXPIRED);
    drop(sealed);
    assert_eq!(all.load(), (0, 0));
}

#[tokio::test]
async fn of_one_that_was_committed_twice_nobody_hears_that_it_may_be_run_again() {
    let all = transactions(LONG, LONG);
    let one = InUse::new(all.open(Mode::ReadWrite, None));
    all.lock(&one, &[place("x")]).await.unwrap();
    let (sealed, _) = all.seal(&one).unwrap();
    // Another request of the same one, which found it before it was sealed.
    for error in [
        all.lock(&one, &[place("x"), place("y")]).await.unwrap_err(),
        all.seal(&one).unwrap_err(),
    ] {
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert_ne!(error.message(), EXPIRED);
    }
    // What nobody says the end of may be there.
    drop(sealed);
    let error = all.find(&one.id.bytes()).unwrap_err();
    assert_ne!(error.message(), EXPIRED);
    assert_eq!(all.load(), (0, 0));
}

#[tokio::test]
async fn a_document_counts_once_however_often_it_is_read() {
    let all = transactions(LONG, LONG);
    let one = InUse::new(all.open(Mode::ReadWrite, None));
    let most: Vec<Place> = (0..DOCUMENTS).map(|i| place(&i.to_string())).collect();
    all.lock(&one, &most).await.unwrap();
    one.note(&most, most.iter().map(|_| None));
    all.lock(&one, &most[..7]).await.unwrap();
    let error = all.lock(&one, &[place("more")]).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
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
}

#[test]
fn a_transaction_is_as_old_as_its_first_try_whatever_clients_say() {
    let all = transactions(LONG, LONG);
    let first = all.open(Mode::ReadWrite, None);
    let second = all.open(Mode::ReadWrite, Some(first.id));
    all.end(&first, End::Nothing);
    all.end(&second, End::Nothing);
    let third = all.open(Mode::ReadWrite, Some(second.id));
    assert_eq!([second.birth, third.birth], [first.birth; 2]);
    // Nobody is older than all others by saying so.
    for (serial, process) in [
        (0, all.process),
        (u64::MAX, all.process),
        (first.id.serial, all.process + 1),
    ] {
        let made_up = Id { serial, process };
        let one = all.open(Mode::ReadWrite, Some(made_up));
        assert_eq!(one.birth, one.id.serial);
    }
}
