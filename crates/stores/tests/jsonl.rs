//! What only files do: torn ends, void lines, lines that are no documents, a lock.
#![cfg(feature = "sqlite")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use whimbrel_model::{
    Body, Code, Guard, Key, KeyKind, KeyRange, Store, StoreError, Write, WriteOutcome,
};
use whimbrel_stores::{CollectionConfig, OpenOptions};

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(std::fs::read(self.path(name)).unwrap()).unwrap()
    }

    async fn open_with(&self, options: OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
        let url = format!("jsonl:{}/", self.directory.path().display());
        whimbrel_stores::open(&url, &options).await
    }

    async fn open(&self) -> Arc<dyn Store> {
        self.open_with(OpenOptions::default()).await.unwrap()
    }
}

fn put(key: impl Into<Key>, json: &str) -> Write {
    Write {
        collection: "c".into(),
        key: key.into(),
        to: Some(Body::from_json(json.to_owned())),
        guard: Guard::Any,
    }
}

fn delete(key: impl Into<Key>) -> Write {
    Write {
        to: None,
        ..put(key, "")
    }
}

/// The bodies in key order, and what was rejected.
async fn read(store: &dyn Store) -> (Vec<String>, Vec<String>) {
    let (mut bodies, mut rejects, mut last) = (Vec::new(), Vec::new(), None);
    loop {
        let range = KeyRange::all().resumed_after(last.as_ref());
        let page = store.scan("c", &range, 2, 1 << 20).await.unwrap();
        rejects.extend(page.rejects.into_iter().map(|r| r.label));
        for document in page.documents {
            bodies.push(String::from_utf8(document.body.json().into_owned()).unwrap());
        }
        match page.last {
            Some(key) => last = Some(key),
            None => break,
        }
    }
    let count = store.count("c", &KeyRange::all()).await.unwrap();
    assert_eq!(count, (bodies.len() + rejects.len()) as u64);
    (bodies, rejects)
}

fn frame(text: &str) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Both kinds of file with the same lines.
async fn both(lines: &str, check: impl AsyncFn(&Files, &str)) {
    let plain = Files::new(&[("c.jsonl", lines.as_bytes())]);
    check(&plain, "c.jsonl").await;
    let packed = Files::new(&[("c.jsonl.zst", &frame(lines))]);
    check(&packed, "c.jsonl.zst").await;
}

fn unpacked(files: &Files, name: &str) -> String {
    let mut bytes = std::fs::read(files.path(name)).unwrap();
    if Path::new(name).extension().is_some_and(|e| e == "zst") {
        bytes = zstd::decode_all(bytes.as_slice()).unwrap();
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_lines_win_and_bytes_stay() {
    let lines = "\u{feff}{\"id\":2, \"v\" : 1e0}\r\n\n{\"id\":1,\"v\":\"\\u00e9\"}\n{\"id\":2,\"v\":3}\n{\"id\":4}\n\
         {\"id\":4,\"$deleted\":true}\n{\"id\":\"1\"}";
    both(lines, async |files, name| {
        let store = files.open().await;
        let (bodies, rejects) = read(&*store).await;
        assert_eq!(
            bodies,
            [
                r#"{"id":1,"v":"\u00e9"}"#,
                r#"{"id":2,"v":3}"#,
                r#"{"id":"1"}"#
            ],
            "{name}"
        );
        assert!(rejects.is_empty());
        drop(store);
        assert_eq!(unpacked(files, name), lines, "reading changes no file");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_are_no_documents_are_told_and_kept() {
    let lines = "{\"id\":1}\nnot json\n{\"v\":1}\n{\"id\":null}\n{\"id\":2}\n";
    both(lines, async |files, name| {
        let store = files.open().await;
        let expect = (
            vec![r#"{"id":1}"#.to_owned(), r#"{"id":2}"#.to_owned()],
            vec![
                "line 2".to_owned(),
                "line 3".to_owned(),
                "line 4".to_owned(),
            ],
        );
        assert_eq!(read(&*store).await, expect, "{name}");
        let outcomes = store
            .write(&[put(1, "{\"v\":9}"), delete(2)])
            .await
            .unwrap();
        assert_eq!(outcomes, [WriteOutcome::Applied, WriteOutcome::Applied]);
        drop(store);
        assert_eq!(
            unpacked(files, name),
            "not json\n{\"v\":1}\n{\"id\":null}\n{\"id\":1,\"v\":9}\n"
        );
    })
    .await;
}

/// What a crash leaves of the last line, or of the last frame, is left out, and gone with the next write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_ends_are_left_out() {
    let whole = "{\"id\":1,\"v\":\"one\"}\n{\"id\":2,\"v\":\"two\"}\n";
    let next = "{\"id\":3,\"v\":\"three\"}\n";
    let all = [whole, next].concat();
    let packed = [frame(whole), frame(next)];
    let check = async |name: &str, content: &[u8], documents: usize| {
        let files = Files::new(&[(name, content)]);
        let store = files.open().await;
        let (bodies, rejects) = read(&*store).await;
        assert_eq!(
            (bodies.len(), rejects.len()),
            (documents, 0),
            "{} bytes",
            content.len()
        );
        assert_eq!(
            std::fs::read(files.path(name)).unwrap(),
            content,
            "reading changes no file"
        );
        store.write(&[put(4, "{\"v\":\"four\"}")]).await.unwrap();
        drop(store);
        let store = files.open().await;
        let (bodies, rejects) = read(&*store).await;
        assert_eq!(
            (bodies.len(), rejects.len()),
            (documents + 1, 0),
            "{} bytes",
            content.len()
        );
        assert!(bodies[documents].contains("four"));
    };
    for cut in whole.len()..=all.len() {
        // Without its line break, the last line is whole all the same.
        let documents = if cut >= all.len() - 1 { 3 } else { 2 };
        check("c.jsonl", &all.as_bytes()[..cut], documents).await;
    }
    let first = packed[0].len();
    let packed = packed.concat();
    for cut in first..=packed.len() {
        let documents = if cut == packed.len() { 3 } else { 2 };
        check("c.jsonl.zst", &packed[..cut], documents).await;
    }
}

/// A frame is whole or not there, so half a line in a whole one is a line that is no document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_line_in_a_whole_frame_stays() {
    let files = Files::new(&[("c.jsonl.zst", &frame("{\"id\":1}\n{\"id"))]);
    for documents in 1..3 {
        let store = files.open().await;
        let (bodies, rejects) = read(&*store).await;
        assert_eq!((bodies.len(), rejects.len()), (documents, 1));
        store
            .write(&[put(i64::try_from(documents).unwrap() + 1, "{}")])
            .await
            .unwrap();
    }
    assert_eq!(
        unpacked(&files, "c.jsonl.zst"),
        "{\"id\":1}\n{\"id\n{\"id\":2}\n{\"id\":3}\n"
    );
}

/// A compressed file that lost its only frame's end is no crash of ours, and damage is no torn end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_frames_are_errors() {
    let one = frame("{\"id\":1}\n{\"id\":2}\n");
    let mut damaged = [one.clone(), frame("{\"id\":3}\n"), one.clone()].concat();
    damaged[one.len()] ^= 0xff;
    for content in [&one[..one.len() - 3], &damaged] {
        let files = Files::new(&[("c.jsonl.zst", content)]);
        let store = files.open().await;
        let error = store.count("c", &KeyRange::all()).await.unwrap_err();
        assert_eq!(error.code, Code::StoreFailed, "{error}");
        assert!(error.message.contains("damaged"), "{error}");
    }
}

/// A file is written anew only where writes left void lines or disorder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_leaves_one_line_a_document() {
    let lines = "{\"id\":3}\n{\"id\":1}\n";
    both(lines, async |files, name| {
        let store = files.open().await;
        let writes = [
            put(2, "{\"id\":2,\n\"v\":[1,\n2]}"),
            put(3, "{\"v\":3}"),
            delete(1),
            put(5, "{}"),
        ];
        store.write(&writes).await.unwrap();
        store.write(&[put(5, "{\"v\":5}")]).await.unwrap();
        let appended = unpacked(files, name);
        assert!(
            appended.starts_with(lines),
            "{name}: nothing is written over"
        );
        assert_eq!(appended.lines().count(), 7, "{name}");
        drop(store);
        let expect = "{\"id\":2, \"v\":[1, 2]}\n{\"id\":3,\"v\":3}\n{\"id\":5,\"v\":5}\n";
        assert_eq!(unpacked(files, name), expect, "{name}");
        let store = files.open().await;
        store.write(&[put(6, "{}"), put(7, "{}")]).await.unwrap();
        let before = std::fs::read(files.path(name)).unwrap();
        drop(store);
        assert_eq!(
            std::fs::read(files.path(name)).unwrap(),
            before,
            "{name}: in order, nothing void"
        );
        let left = std::fs::read_dir(files.directory.path()).unwrap().count();
        assert_eq!(left, 2, "{name}: the file and the lock");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_at_a_time() {
    let files = Files::new(&[("c.jsonl", b"")]);
    let store = files.open().await;
    for read_only in [false, true] {
        let options = OpenOptions {
            read_only,
            ..OpenOptions::default()
        };
        let error = files.open_with(options).await.unwrap_err();
        assert_eq!(error.code, Code::StoreUnavailable, "{error}");
    }
    drop(store);
    files.open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_makes_no_file() {
    let files = Files::new(&[("c.jsonl", b"{\"id\":1}\n{\"id\":1}\n")]);
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let store = files.open_with(options).await.unwrap();
    assert_eq!(read(&*store).await.0.len(), 1);
    assert_eq!(
        store.write(&[put(2, "{}")]).await.unwrap_err().code,
        Code::StoreDenied
    );
    drop(store);
    assert_eq!(
        std::fs::read_dir(files.directory.path()).unwrap().count(),
        1
    );
}

/// Lines that somebody else appended are not written over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_noticed() {
    let files = Files::new(&[("c.jsonl", b"{\"id\":1}\n")]);
    let store = files.open().await;
    assert_eq!(read(&*store).await.0.len(), 1);
    let mut app = std::fs::File::options()
        .append(true)
        .open(files.path("c.jsonl"))
        .unwrap();
    app.write_all(b"{\"id\":2}\n").unwrap();
    let error = store.write(&[put(3, "{}")]).await.unwrap_err();
    assert_eq!(error.code, Code::StoreFailed, "{error}");
    drop(store);
    assert_eq!(files.text("c.jsonl"), "{\"id\":1}\n{\"id\":2}\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collections_are_files() {
    let files = Files::new(&[
        ("a.jsonl", b"{\"uid\":\"x\"}\n"),
        ("b.jsonl.zst", &frame("{\"id\":1}\n")),
        ("twice.jsonl", b""),
        ("twice.jsonl.zst", b""),
        ("notes.txt", b"-"),
    ]);
    let mut options = OpenOptions::default();
    let config = CollectionConfig {
        table: Some("a".into()),
        key: vec!["uid".into()],
        ..CollectionConfig::default()
    };
    options.collections.insert("users".into(), config);
    let store = files.open_with(options).await.unwrap();
    assert_eq!(store.collections().await.unwrap(), ["b", "twice", "users"]);
    let users = store.describe("users").await.unwrap().unwrap();
    assert_eq!((users.key, users.documents), (KeyKind::Text, Some(1)));
    assert_eq!(
        store.describe("b").await.unwrap().unwrap().key,
        KeyKind::Int
    );
    assert_eq!(
        store.describe("twice").await.unwrap_err().code,
        Code::StoreShape
    );
    for hostile in ["../a", "a/b", "", ".hidden"] {
        assert_eq!(store.describe(hostile).await.unwrap(), None, "{hostile}");
        let error = store.ensure(hostile, &KeyKind::Int).await.unwrap_err();
        assert_eq!(error.code, Code::StoreShape, "{hostile}");
    }
}

/// A batch over two files lands in both or in none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_fails_leaves_every_file() {
    let files = Files::new(&[("c.jsonl", b"{\"id\":1}\n"), ("d.jsonl", b"{\"id\":1}\n")]);
    let store = files.open().await;
    store.count("c", &KeyRange::all()).await.unwrap();
    store.count("d", &KeyRange::all()).await.unwrap();
    // The second file is not as it was left, so its part of the batch fails.
    std::fs::write(files.path("d.jsonl"), b"").unwrap();
    let other = Write {
        collection: "d".into(),
        ..put(2, "{}")
    };
    store.write(&[put(2, "{}"), other]).await.unwrap_err();
    assert_eq!(files.text("c.jsonl"), "{\"id\":1}\n");
    assert_eq!(store.count("c", &KeyRange::all()).await.unwrap(), 1);
    assert_eq!(
        store.write(&[put(3, "{}")]).await.unwrap(),
        [WriteOutcome::Applied]
    );
    drop(store);
    assert_eq!(files.text("c.jsonl"), "{\"id\":1}\n{\"id\":3}\n");
}
