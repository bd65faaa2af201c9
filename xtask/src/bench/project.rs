//! A Whimbrel project, made for one run and forgotten.

use super::Bench;
use crate::Outcome;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Project {
    dir: PathBuf,
    whimbrel: PathBuf,
}

impl Project {
    /// `app` is a SQLite file, `pg` the bench's server; `conversations` lies in `store`.
    pub fn make(
        bench: &Bench,
        name: &str,
        app: &Path,
        store: &str,
        files: &[(&str, &str)],
    ) -> Outcome<Self> {
        let whimbrel = bench
            .whimbrel
            .clone()
            .ok_or("Whimbrel is left out of this bench")?;
        let dir = bench.folder(name)?;
        let manifest = format!(
            "[ledger]\nurl = \"sqlite:.whimbrel/ledger.db\"\n\n\
             [stores.app]\nurl = \"sqlite:{}\"\n\n\
             [stores.pg]\nurl = \"{}\"\n\n\
             [collections.conversations]\nstore = \"{store}\"\n",
            app.display(),
            bench.postgres.url(),
        );
        let files = files
            .iter()
            .copied()
            .chain([("whimbrel.toml", manifest.as_str())]);
        for (file, text) in files {
            let path = dir.join(file);
            let folder = path.parent().unwrap_or(&dir);
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&path, text))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(Self { dir, whimbrel })
    }

    /// The project that an earlier lane left, with its ledger.
    pub fn at(bench: &Bench, dir: &Path) -> Outcome<Self> {
        let whimbrel = bench
            .whimbrel
            .clone()
            .ok_or("Whimbrel is left out of this bench")?;
        if !dir.join("whimbrel.toml").is_file() {
            return Err(format!("{} is no project", dir.display()));
        }
        Ok(Self {
            dir: dir.to_owned(),
            whimbrel,
        })
    }

    /// The ordinary command, as a user types it.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.whimbrel);
        command.current_dir(&self.dir).args(words).arg("--yes");
        command
    }
}
