//! The pages of the documentation say what the program says: every command executed, every help up to
//! date, every error code with its three answers.

mod support;

use std::path::Path;
use support::{Sandbox, root, run_in};
use whimbrel_model::Code;

/// Executes the `console` blocks of a page, one after the other, in one folder. After a command stands what
/// it must print, in this order; `…` stands for anything, within a line and between lines. A command may
/// end with `# exits with N`.
#[test]
fn the_tour_works_as_it_is_written() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let sandbox = Sandbox::new();
    let mut dir = sandbox.path().to_path_buf();
    let mut commands = 0;
    for (command, expected) in steps(&readme) {
        commands += 1;
        if let Some(folder) = command.strip_prefix("cd ") {
            dir = dir.join(folder);
            continue;
        }
        execute(&dir, &command, &expected);
    }
    assert!(
        commands > 10,
        "only {commands} commands were found in the README"
    );
}

fn execute(dir: &Path, command: &str, expected: &[String]) {
    let (command, code) = match command.split_once("# exits with ") {
        Some((command, code)) => (command.trim(), code.trim().parse().unwrap()),
        None => (command, 0),
    };
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(
        words[0], "whimbrel",
        "the tour has only whimbrel's commands: {command}"
    );
    let ran = run_in(dir, &words[1..]);
    assert_eq!(ran.code, code, "{command}\n{}\n{}", ran.stdout, ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    if let Err(missing) = fits(&lines, expected) {
        panic!("{command}\ndid not print: {missing}\nbut:\n{}", ran.stdout);
    }
}

/// The commands of all `console` blocks, each with the lines that stand below it.
fn steps(page: &str) -> Vec<(String, Vec<String>)> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push((command.to_owned(), Vec::new())),
                (None, Some((_, lines))) => lines.push(line.to_owned()),
                (None, None) => panic!("a block begins without a command: {line}"),
            }
        }
    }
    steps
}

/// Whether the lines are the expected ones, blanks at both ends not counted.
fn fits(lines: &[&str], expected: &[String]) -> Result<(), String> {
    let Some((first, rest)) = expected.split_first() else {
        return Ok(());
    };
    if first.trim() == "…" {
        return match rest.first() {
            None => Ok(()),
            Some(next) => (0..=lines.len())
                .find_map(|i| fits(&lines[i..], rest).ok())
                .ok_or_else(|| next.clone()),
        };
    }
    match lines.split_first() {
        Some((line, others)) if line_fits(line.trim(), first.trim()) => fits(others, rest),
        _ => Err(first.clone()),
    }
}

fn line_fits(line: &str, expected: &str) -> bool {
    let pieces: Vec<&str> = expected.split('…').collect();
    let [first, middle @ .., last] = &pieces[..] else {
        return line == expected;
    };
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for piece in middle {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn expected_lines_are_compared() {
    let check = |lines: &[&str], expected: &[&str], fit: bool| {
        let expected: Vec<String> = expected.iter().map(|l| (*l).to_owned()).collect();
        assert_eq!(
            fits(lines, &expected).is_ok(),
            fit,
            "{lines:?} {expected:?}"
        );
    };
    check(&["a", "b"], &["a", "b"], true);
    check(&["a", "b"], &["b"], false);
    check(&["a", "b", "c"], &["…", "b", "…"], true);
    check(&["run 7 done"], &["run … done"], true);
    check(&["run 7 gone"], &["run … done"], false);
    check(&["a"], &["…", "b"], false);
}

/// Each page of a command holds the help of the command as it is now. `WHIMBREL_UPDATE_PAGES=1` writes it.
#[test]
fn command_pages_hold_the_help() {
    let update = std::env::var_os("WHIMBREL_UPDATE_PAGES").is_some();
    let folder = root().join("docs/commands");
    let mut stale = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let now = with_help(&text);
        if text != now {
            if update {
                std::fs::write(&path, now).unwrap();
            } else {
                stale.push(path);
            }
        }
    }
    assert!(
        stale.is_empty(),
        "run this test with WHIMBREL_UPDATE_PAGES=1 to bring up to date: {stale:?}"
    );
}

fn with_help(page: &str) -> String {
    let mut out = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if line != "```text" {
            continue;
        }
        let command = lines.next().unwrap();
        out.push_str(command);
        out.push('\n');
        let words: Vec<&str> = command
            .strip_prefix("$ whimbrel ")
            .unwrap()
            .split_whitespace()
            .collect();
        let ran = run_in(&root(), &words);
        assert_eq!(ran.code, 0, "{command}");
        let help: Vec<&str> = ran.stdout.lines().map(str::trim_end).collect();
        out.push_str(help.join("\n").trim_end());
        out.push_str("\n```\n");
        lines.by_ref().find(|l| *l == "```");
    }
    out
}

#[test]
fn every_code_has_a_page_with_three_answers() {
    for code in Code::ALL {
        let path = root().join(format!("docs/errors/{}.md", code.id()));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let head = format!("# {}: {}\n", code.id(), code.title());
        assert!(
            text.starts_with(&head),
            "{} begins with {head:?}",
            path.display()
        );
        for heading in ["What happened", "What was not done", "What to do next"] {
            let after = text
                .split_once(&format!("\n## {heading}\n\n"))
                .map(|(_, after)| after);
            let words = after
                .and_then(|t| t.split("\n## ").next())
                .map_or(0, |t| t.split_whitespace().count());
            assert!(words >= 3, "{}: \"{heading}\" says nothing", path.display());
        }
    }
}
