//! An archive that is not what it was is refused before anything is written.

use super::{Bench, chat, reopened, restore_job};
use crate::common::{fill, ledger, sqlite};
use std::fs;
use whimbrel_model::Code;
use whimbrel_model::ledger::JobKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_of_an_archive_with_a_wrong_byte() {
    let bench = Bench::new().await;
    fill(&bench.store, "chats", (0..60).map(chat)).await;
    let archive = bench.backup(&["chats"]).await.archive;
    let folder = bench.dir.path().join("vault").join(archive.name());
    let chunks: Vec<_> = fs::read_dir(folder.join("chunks"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert!(chunks.len() > 5);
    let target = sqlite(bench.dir.path(), "back.db").await;
    for chunk in &chunks {
        let right = fs::read(chunk).unwrap();
        for at in [0, right.len() / 2, right.len() - 1] {
            let mut wrong = right.clone();
            wrong[at] ^= 0x10;
            fs::write(chunk, wrong).unwrap();
            let opened = reopened(&archive).await.unwrap();
            let error = bench.engine.restore(restore_job(&opened, &target)).await;
            assert_eq!(error.unwrap_err().code(), Code::ArchiveInvalid);
            let proof = bench.engine.prove(&opened).await;
            assert_eq!(proof.unwrap_err().code(), Code::ArchiveInvalid);
        }
        fs::remove_file(chunk).unwrap();
        let opened = reopened(&archive).await.unwrap();
        let error = bench.engine.restore(restore_job(&opened, &target)).await;
        assert_eq!(error.unwrap_err().code(), Code::ArchiveInvalid);
        fs::write(chunk, right).unwrap();
    }
    assert_eq!(target.collections().await.unwrap(), Vec::<String>::new());
    let state = ledger(bench.dir.path()).await.state();
    assert!(state.runs.values().all(|r| r.job.kind != JobKind::Restore));
    let opened = reopened(&archive).await.unwrap();
    bench
        .engine
        .restore(restore_job(&opened, &target))
        .await
        .unwrap();
}
