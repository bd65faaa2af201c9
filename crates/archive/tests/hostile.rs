//! Archives that were damaged, altered or made to harm: each is refused, and what it wanted never happens.

mod common;

use common::{Fixture, json_of, read_all, rewrite};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use whimbrel_archive::ArchiveError;
use whimbrel_model::Code;

/// Spoils an archive's folder.
type Spoil = Box<dyn Fn(&Path)>;

/// A change of the manifest.
fn manifest(change: impl Fn(&mut Value) + 'static) -> Spoil {
    Box::new(move |dir| rewrite(dir, &change))
}

/// A change of the first chunk's entry in the manifest.
fn entry(change: impl Fn(&mut Value) + 'static) -> Spoil {
    manifest(move |m| change(&mut m["collections"][0]["chunks"][0]))
}

fn chunk_path(dir: &Path, at: usize) -> std::path::PathBuf {
    let name = &json_of(dir)["collections"][0]["chunks"][at]["name"];
    dir.join("chunks").join(name.as_str().unwrap())
}

fn chunk(change: impl Fn(&mut Vec<u8>) + 'static) -> Spoil {
    Box::new(move |dir| {
        let path = chunk_path(dir, 0);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    })
}

/// Puts another chunk in the first one's place, with everything in the manifest made to match.
fn replaced(raw: Vec<u8>, says: impl Fn(&mut Value) + Clone + 'static) -> Spoil {
    Box::new(move |dir| {
        let stored = zstd::bulk::compress(&raw, 3).unwrap();
        let blake3 = blake3::hash(&stored).to_hex().to_string();
        let name = format!("0000-{}.zst", &blake3[..32]);
        fs::write(dir.join("chunks").join(&name), &stored).unwrap();
        let says = says.clone();
        let raw_bytes = raw.len();
        rewrite(dir, &move |m: &mut Value| {
            let part = &mut m["collections"][0];
            let mut chunk = part["chunks"][0].clone();
            chunk["name"] = json!(name);
            chunk["blake3"] = json!(blake3);
            chunk["stored_bytes"] = json!(stored.len());
            chunk["raw_bytes"] = json!(raw_bytes);
            says(&mut chunk);
            part["chunks"] = json!([chunk]);
            for field in ["documents", "raw_bytes", "stored_bytes"] {
                part[field] = part["chunks"][0][field].clone();
            }
            part["versions"] = json!({ "1": part["documents"] });
        });
    })
}

fn document(key: &str, body: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    raw.extend(u32::try_from(key.len() + 1).unwrap().to_le_bytes());
    raw.push(3);
    raw.extend(key.as_bytes());
    raw.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    raw.extend(body);
    raw
}

fn holding(documents: u64, first: &'static str, last: &'static str) -> impl Fn(&mut Value) + Clone {
    move |chunk| {
        chunk["documents"] = json!(documents);
        chunk["first"] = json!(first);
        chunk["last"] = json!(last);
    }
}

#[cfg(unix)]
fn link(from: &str) -> Spoil {
    let from = from.to_owned();
    Box::new(move |dir| {
        let outside = dir.parent().unwrap().parent().unwrap().join("outside");
        let inside = match from.as_str() {
            "a chunk" => chunk_path(dir, 0),
            "the chunks" => dir.join("chunks"),
            "the manifest" => dir.join("manifest.json"),
            _ => dir.to_path_buf(),
        };
        // What the link leads to is exactly what should be there: even so it is not followed.
        fs::rename(&inside, &outside).unwrap();
        std::os::unix::fs::symlink(&outside, &inside).unwrap();
    })
}

// tidy: long because it is the table of everything that can be wrong with an archive.
fn table() -> Vec<(&'static str, Spoil, Code)> {
    use Code::{ArchiveInvalid as Invalid, ArchiveMissing as Missing, ArchiveNewer as Newer};
    let bomb = document("k", &vec![b' '; 64 << 20]);
    vec![
        ("a bit of a chunk", chunk(|b| b[20] ^= 1), Invalid),
        (
            "the last byte of a chunk",
            chunk(|b| *b.last_mut().unwrap() ^= 1),
            Invalid,
        ),
        (
            "a chunk's end is gone",
            chunk(|b| b.truncate(b.len() - 1)),
            Invalid,
        ),
        ("a chunk is empty", chunk(Vec::clear), Invalid),
        ("a chunk has more behind it", chunk(|b| b.push(0)), Invalid),
        (
            "a chunk is missing",
            Box::new(|dir| fs::remove_file(chunk_path(dir, 0)).unwrap()),
            Invalid,
        ),
        (
            "two chunks are swapped",
            Box::new(|dir| {
                let (a, b) = (chunk_path(dir, 0), chunk_path(dir, 1));
                let (one, two) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
                fs::write(a, two).unwrap();
                fs::write(b, one).unwrap();
            }),
            Invalid,
        ),
        (
            "a chunk is listed twice",
            manifest(|m| {
                let part = &mut m["collections"][0];
                let chunks = part["chunks"].as_array_mut().unwrap();
                let twice = chunks[0].clone();
                chunks[1] = twice;
            }),
            Invalid,
        ),
        (
            "a chunk leads out",
            entry(|c| c["name"] = json!("../../../etc/passwd")),
            Invalid,
        ),
        (
            "a chunk leads to the root",
            entry(|c| c["name"] = json!("/etc/passwd")),
            Invalid,
        ),
        (
            "a chunk of another collection",
            entry(|c| {
                let name = c["name"].as_str().unwrap().replacen("0000-", "0001-", 1);
                c["name"] = json!(name);
            }),
            Invalid,
        ),
        (
            "a hash that is none",
            entry(|c| c["blake3"] = json!("zz")),
            Invalid,
        ),
        (
            "another chunk's hash",
            entry(|c| c["blake3"] = json!("0".repeat(64))),
            Invalid,
        ),
        (
            "fewer documents",
            entry(|c| c["documents"] = json!(1)),
            Invalid,
        ),
        (
            "no documents",
            entry(|c| c["documents"] = json!(0)),
            Invalid,
        ),
        (
            "documents below zero",
            entry(|c| c["documents"] = json!(-1)),
            Invalid,
        ),
        (
            "more documents than fit",
            entry(|c| c["documents"] = json!(u64::MAX)),
            Invalid,
        ),
        (
            "larger than any chunk",
            entry(|c| c["raw_bytes"] = json!(1_u64 << 40)),
            Invalid,
        ),
        (
            "stored larger than raw",
            entry(|c| c["stored_bytes"] = json!(1_u64 << 40)),
            Invalid,
        ),
        (
            "counts that do not add up",
            manifest(|m| m["collections"][0]["documents"] = json!(7)),
            Invalid,
        ),
        (
            "versions that do not add up",
            manifest(|m| m["collections"][0]["versions"] = json!({ "1": u64::MAX, "2": 2 })),
            Invalid,
        ),
        (
            "a collection that leads out",
            manifest(|m| m["collections"][0]["collection"] = json!("../../x")),
            Invalid,
        ),
        (
            "a collection twice",
            manifest(|m| {
                let part = m["collections"][0].clone();
                m["collections"].as_array_mut().unwrap().push(part);
            }),
            Invalid,
        ),
        (
            "no collections",
            manifest(|m| m["collections"] = json!([])),
            Invalid,
        ),
        (
            "too many chunks",
            manifest(|m| {
                let one = m["collections"][0]["chunks"][0].clone();
                m["collections"][0]["chunks"] = json!(vec![one; 250_001]);
            }),
            Invalid,
        ),
        (
            "a huge manifest",
            Box::new(|dir| {
                let file = fs::File::create(dir.join("manifest.json")).unwrap();
                file.set_len(1 << 30).unwrap();
            }),
            Invalid,
        ),
        (
            "a newer format",
            manifest(|m| m["format"] = json!(2)),
            Newer,
        ),
        (
            "a newer format of another shape",
            Box::new(|dir| fs::write(dir.join("manifest.json"), r#"{"format":9}"#).unwrap()),
            Newer,
        ),
        ("no format", manifest(|m| m["format"] = json!(0)), Invalid),
        (
            "a manifest that is no JSON",
            Box::new(|dir| fs::write(dir.join("manifest.json"), "{").unwrap()),
            Invalid,
        ),
        (
            "deep JSON",
            Box::new(|dir| {
                let deep = format!("{{\"format\":1,\"x\":{}", "[".repeat(1_000_000));
                fs::write(dir.join("manifest.json"), deep).unwrap();
            }),
            Invalid,
        ),
        (
            "no manifest",
            Box::new(|dir| fs::remove_file(dir.join("manifest.json")).unwrap()),
            Missing,
        ),
        (
            "two manifests",
            Box::new(|dir| fs::write(dir.join("manifest.json.age"), "x").unwrap()),
            Invalid,
        ),
        (
            "a signature of nothing",
            Box::new(|dir| fs::write(dir.join("manifest.sig"), "x").unwrap()),
            Invalid,
        ),
        (
            "encrypted, it says",
            manifest(|m| m["encrypted"] = json!(true)),
            Invalid,
        ),
        (
            "a bomb that says its size",
            // Within what a chunk may become: it is read, and found to be no matter.
            replaced(bomb.clone(), |c| {
                holding(1, "k", "k")(c);
                c["raw_bytes"] = json!((64_u64 << 20) - 100);
            }),
            Invalid,
        ),
        (
            "a bomb that says little",
            replaced(bomb, |c| {
                holding(1, "k", "k")(c);
                c["raw_bytes"] = json!(100_000);
            }),
            Invalid,
        ),
        (
            "a chunk that is smaller than it says",
            replaced(document("k", b"{}"), |c| {
                holding(1, "k", "k")(c);
                c["raw_bytes"] = json!(100_000);
            }),
            Invalid,
        ),
        (
            "a document cut short",
            replaced(
                document("kkkkkkkk", b"{\"a\":1}")[..20].to_vec(),
                holding(1, "kkkkkkkk", "kkkkkkkk"),
            ),
            Invalid,
        ),
        (
            "a document longer than all",
            replaced(
                [&[255, 255, 255, 255][..], &[3; 40]].concat(),
                holding(1, "k", "k"),
            ),
            Invalid,
        ),
        (
            "a key twice",
            replaced(
                [document("k", b"{}"), document("k", b"{}")].concat(),
                holding(2, "k", "k"),
            ),
            Invalid,
        ),
        (
            "more documents than said",
            replaced(
                [document("a", b"{}"), document("k", b"{}")].concat(),
                holding(1, "k", "k"),
            ),
            Invalid,
        ),
        (
            "other keys than said",
            replaced(
                [document("a", b"{}"), document("k", b"{}")].concat(),
                holding(2, "a", "b"),
            ),
            Invalid,
        ),
        (
            "a key that is no text",
            replaced(
                [&[2, 0, 0, 0, 3, 255][..], &[2, 0, 0, 0], b"{}"].concat(),
                holding(1, "k", "k"),
            ),
            Invalid,
        ),
        #[cfg(unix)]
        ("a chunk is a link", link("a chunk"), Invalid),
        #[cfg(unix)]
        ("the chunks are a link", link("the chunks"), Invalid),
        #[cfg(unix)]
        ("the manifest is a link", link("the manifest"), Invalid),
        #[cfg(unix)]
        ("the archive is a link", link("the archive"), Invalid),
    ]
}

#[tokio::test]
async fn what_is_not_as_it_should_be_is_refused() {
    for (what, spoil, code) in table() {
        let fixture = Fixture::plain().await;
        assert!(read_all(&fixture).await.is_ok(), "before: {what}");
        spoil(&fixture.dir());
        match read_all(&fixture).await {
            Ok(_) => panic!("{what}: it was read"),
            Err(ArchiveError {
                code: found,
                message,
                ..
            }) => assert_eq!(found, code, "{what}: {message}"),
        }
    }
}

/// No byte of an archive can be another without anybody noticing. (The manifest of this one is signed.)
#[tokio::test]
async fn every_byte_counts() {
    let fixture = Fixture::signed().await;
    let mut files: Vec<_> = fs::read_dir(fixture.dir().join("chunks"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.push(fixture.dir().join("manifest.json"));
    files.push(fixture.dir().join("manifest.sig"));
    let mut tried = 0;
    for file in files {
        let right = fs::read(&file).unwrap();
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1 << (at % 8);
            fs::write(&file, &wrong).unwrap();
            let read = read_all(&fixture).await;
            // The line's end behind a signature may be another space.
            let harmless = file.ends_with("manifest.sig") && at + 1 == right.len();
            assert!(read.is_err() || harmless, "{} at {at}", file.display());
            tried += 1;
        }
        fs::write(&file, right).unwrap();
    }
    assert!(tried > 1000, "{tried}");
    read_all(&fixture).await.unwrap();
}
