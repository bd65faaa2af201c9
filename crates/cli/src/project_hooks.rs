//! The `[[hook]]`s of whimbrel.toml: what hears of a migration's moments.

use crate::project_file::{Node, Reader};
use std::collections::BTreeMap;
use toml::de::DeTable;
use whimbrel_engine::migrate::{Hook, HookAction, webhook_problem};
use whimbrel_model::Moment;

/// Moments by the words that files use.
const MOMENTS: [(&str, Moment); 14] = [
    ("started", Moment::Started),
    ("resumed", Moment::Resumed),
    ("step_started", Moment::StepStarted),
    ("step_done", Moment::StepDone),
    ("step_retried", Moment::StepRetried),
    ("step_failed", Moment::StepFailed),
    ("undoing", Moment::Undoing),
    ("step_undone", Moment::StepUndone),
    ("step_undo_failed", Moment::StepUndoFailed),
    ("step_kept", Moment::StepKept),
    ("rested", Moment::Rested),
    ("completed", Moment::Completed),
    ("rolled_back", Moment::RolledBack),
    ("roll_back_failed", Moment::RollBackFailed),
];

impl Reader<'_> {
    pub(crate) fn hooks(&mut self, root: &DeTable) -> Vec<Hook> {
        let Some(node) = root.get("hook") else {
            return Vec::new();
        };
        let Some(items) = node.get_ref().as_array() else {
            self.wrong(node, "hook", "a list: write [[hook]]");
            return Vec::new();
        };
        let mut hooks = Vec::new();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) => hooks.extend(self.hook(item, table)),
                None => self.wrong(item, "hook", "a table"),
            }
        }
        hooks
    }

    fn hook(&mut self, item: &Node, table: &DeTable) -> Option<Hook> {
        let known = ["on", "command", "folder", "env", "webhook", "headers"];
        self.only(table, "[[hook]]", &known);
        let on = self.moments(item, table);
        let action = match (table.get("command"), table.get("webhook")) {
            (Some(_), None) => HookAction::Command {
                command: self.texts(table, "command"),
                folder: self.text(table, "folder"),
                env: self.references(table, "env"),
            },
            (None, Some(node)) => {
                let url = self.text(table, "webhook")?;
                if let Some(why) = webhook_problem(&url) {
                    self.problem(node.span(), why, None);
                }
                let headers = self.references(table, "headers");
                HookAction::Webhook { url, headers }
            }
            _ => {
                let help = "command = [\"./notify.sh\"]   or   webhook = \"$CHAT_URL\"".to_owned();
                let what = "[[hook]] says either command or webhook";
                self.problem(item.span(), what, Some(help));
                return None;
            }
        };
        Some(Hook { on, action })
    }

    fn moments(&mut self, item: &Node, table: &DeTable) -> Vec<Moment> {
        let words: Vec<&str> = MOMENTS.iter().map(|(word, _)| *word).collect();
        let Some(node) = table.get("on") else {
            let help = Some(format!(
                "on = [\"step_failed\", \"completed\"]   (known: {})",
                words.join(", ")
            ));
            self.problem(item.span(), "[[hook]] does not say on which moments", help);
            return Vec::new();
        };
        let mut moments = Vec::new();
        for word in self.texts(table, "on") {
            match MOMENTS.iter().find(|(known, _)| *known == word) {
                Some((_, moment)) => moments.push(*moment),
                None => {
                    let help = match crate::project::nearest(&word, &words) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => format!("known here: {}", words.join(", ")),
                    };
                    let what = format!("no moment is called \"{word}\"");
                    self.problem(node.span(), what, Some(help));
                }
            }
        }
        moments
    }

    /// Texts by name, which may name secrets.
    fn references(&mut self, table: &DeTable, name: &str) -> BTreeMap<String, String> {
        let Some(inner) = self.table(table, name) else {
            return BTreeMap::new();
        };
        let names: Vec<String> = inner.keys().map(|k| k.get_ref().to_string()).collect();
        let mut out = BTreeMap::new();
        for key in names {
            if let Some(text) = self.text(inner, &key) {
                out.insert(key, text);
            }
        }
        out
    }
}
