//! The machine's own main configuration with a set's files in place of the live ones.
//!
//! What a program would read is the machine's word; only the line that includes fanout's files is
//! turned to the copy that is tested. Files on the way to that line are written out, all others
//! stay as they are included. Reads; writes nothing.

use crate::fs::system;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// LIMIT: how deep files include each other.
const MAX_DEPTH: usize = 8;

/// How a program writes its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Nginx,
    Apache,
    PhpFpm,
}

/// A main configuration to be mirrored.
pub(super) struct Mirror<'a> {
    pub(super) syntax: Syntax,
    /// Where relative paths begin.
    pub(super) base: &'a Path,
    /// The live set.
    pub(super) current: &'a Path,
    /// What stands in place of an include of `current/REST`.
    pub(super) ours: &'a (dyn Fn(&str) -> String + Sync),
}

impl Mirror<'_> {
    /// The text of `file` with every include of fanout's files replaced, and whether there is one.
    pub(super) fn of(&self, file: &Path) -> (String, bool) {
        self.at(file, 0)
    }

    fn at(&self, file: &Path, depth: usize) -> (String, bool) {
        let Ok(text) = system::read_text(file) else {
            return (String::new(), false);
        };
        let mut mirrored = String::with_capacity(text.len());
        let (mut copied, mut leads) = (0, false);
        for (range, pattern) in includes(self.syntax, &text) {
            let Some(instead) = self.instead(&pattern, depth) else {
                continue;
            };
            leads = true;
            mirrored.push_str(&text[copied..range.start]);
            mirrored.push_str(&instead);
            copied = range.end;
        }
        mirrored.push_str(&text[copied..]);
        (mirrored, leads)
    }

    /// What stands in place of an include, if it leads to fanout's files.
    fn instead(&self, pattern: &str, depth: usize) -> Option<String> {
        let path = self.base.join(pattern);
        if let Ok(rest) = path.strip_prefix(self.current) {
            return Some((self.ours)(&rest.to_string_lossy()));
        }
        if depth >= MAX_DEPTH {
            return None;
        }
        let files: Vec<(PathBuf, (String, bool))> = globbed(&path)
            .into_iter()
            .map(|file| (file.clone(), self.at(&file, depth + 1)))
            .collect();
        if !files.iter().any(|(_, (_, leads))| *leads) {
            return None;
        }
        let lines = files.into_iter().map(|(file, (text, leads))| match leads {
            true => format!("{text}\n"),
            false => self.syntax.include(&file),
        });
        Some(lines.collect())
    }
}

impl Syntax {
    /// A line that includes a file.
    pub(super) fn include(self, file: &Path) -> String {
        let file = file.display();
        match self {
            Self::Nginx => format!("include \"{file}\";\n"),
            Self::Apache => format!("Include \"{file}\"\n"),
            Self::PhpFpm => format!("include={file}\n"),
        }
    }
}

/// The includes of a text: where they stand, and of what.
fn includes(syntax: Syntax, text: &str) -> Vec<(Range<usize>, String)> {
    if syntax == Syntax::Nginx {
        let found = directives(text).into_iter();
        return found
            .filter_map(|it| match it.words.as_slice() {
                [word, path] if word == "include" => Some((it.range, path.clone())),
                _ => None,
            })
            .collect();
    }
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let range = start..start + line.len();
        start = range.end;
        let line = line.trim();
        let path = match syntax {
            Syntax::PhpFpm => line
                .strip_prefix("include")
                .and_then(|rest| rest.trim_start().strip_prefix('=')),
            _ => line
                .split_once(char::is_whitespace)
                .and_then(|(word, rest)| {
                    let is_include = ["include", "includeoptional"]
                        .iter()
                        .any(|it| word.eq_ignore_ascii_case(it));
                    is_include.then_some(rest)
                }),
        };
        if let Some(path) = path {
            let path = path.trim().trim_matches(['"', '\'']);
            found.push((range, path.to_owned()));
        }
    }
    found
}

/// A directive of nginx without a block.
pub(super) struct Directive {
    pub(super) range: Range<usize>,
    pub(super) depth: usize,
    pub(super) words: Vec<String>,
}

/// The directives of an nginx configuration that end in a semicolon.
pub(super) fn directives(text: &str) -> Vec<Directive> {
    let mut found = Vec::new();
    let (mut words, mut word, mut start, mut depth) = (Vec::new(), String::new(), None, 0usize);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '#' if word.is_empty() => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
                continue;
            }
            '"' | '\'' if word.is_empty() => {
                start.get_or_insert(at);
                #[allow(
                    clippy::while_let_on_iterator,
                    reason = "the loop takes more than one at a time"
                )]
                while let Some((_, inner)) = chars.next() {
                    match inner {
                        '\\' => word.extend(chars.next().map(|(_, c)| c)),
                        _ if inner == c => break,
                        _ => word.push(inner),
                    }
                }
                words.push(std::mem::take(&mut word));
                continue;
            }
            _ => {}
        }
        let ends_word = c.is_whitespace() || matches!(c, ';' | '{' | '}');
        if !ends_word {
            start.get_or_insert(at);
            word.push(c);
            // `${name}` is one word.
            if word.ends_with("${") || (c == '$' && chars.peek().is_some_and(|(_, c)| *c == '{')) {
                #[expect(
                    clippy::while_let_on_iterator,
                    reason = "the loop takes more than one at a time"
                )]
                while let Some((_, inner)) = chars.next() {
                    word.push(inner);
                    if inner == '}' {
                        break;
                    }
                }
            }
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        match c {
            ';' => {
                if let Some(start) = start.take() {
                    found.push(Directive {
                        range: start..at + 1,
                        depth,
                        words: std::mem::take(&mut words),
                    });
                }
            }
            '{' => {
                depth += 1;
                words.clear();
                start = None;
            }
            '}' => {
                depth = depth.saturating_sub(1);
                words.clear();
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// The files that a pattern means; a pattern without wildcards means itself.
pub(super) fn globbed(path: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    if !name.contains(['*', '?']) {
        return match system::exists(path) {
            true => vec![path.to_owned()],
            false => Vec::new(),
        };
    }
    let names = system::names(directory).into_iter();
    names
        .filter(|it| !it.starts_with('.') && matches(&name, it))
        .map(|it| directory.join(it))
        .collect()
}

/// Does a name fit a pattern of `*` and `?`?
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            matches(&pattern[1..], name)
                || name
                    .chars()
                    .next()
                    .is_some_and(|c| matches(pattern, &name[c.len_utf8()..]))
        }
        (Some('?'), Some(c)) => matches(&pattern[1..], &name[c.len_utf8()..]),
        (Some(a), Some(b)) if a == b => matches(&pattern[a.len_utf8()..], &name[b.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_found_at_every_depth_and_not_in_comments_or_quotes() {
        let text = "pid /run/x.pid; # include no;\nhttp { log \"a;include b;\"; include 'c d';\n\
            server { set $x ${y}z; listen 80; } }";
        let found: Vec<_> = directives(text)
            .into_iter()
            .map(|it| (it.depth, it.words.join(" ")))
            .collect();
        assert_eq!(
            found,
            [
                (0, "pid /run/x.pid".to_owned()),
                (1, "log a;include b;".to_owned()),
                (1, "include c d".to_owned()),
                (2, "set $x ${y}z".to_owned()),
                (2, "listen 80".to_owned()),
            ]
        );
    }

    #[test]
    fn only_what_leads_to_our_files_is_written_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        write(
            "nginx.conf",
            "http {\n    include mime.types;\n    include conf.d/*.conf;\n}\n",
        );
        write("mime.types", "types {}\n");
        write("conf.d/a.conf", "a on;\n");
        write("conf.d/fanout.conf", "include /live/nginx/*.conf;\n");
        let mirror = Mirror {
            syntax: Syntax::Nginx,
            base: dir.path(),
            current: Path::new("/live"),
            ours: &|rest| format!("OURS {rest};"),
        };
        let (text, leads) = mirror.of(&dir.path().join("nginx.conf"));
        assert!(leads);
        let at = dir.path().display();
        assert_eq!(
            text,
            format!(
                "http {{\n    include mime.types;\n    include \"{at}/conf.d/a.conf\";\n\
                 OURS nginx/*.conf;\n\n\n}}\n"
            )
        );
        write("conf.d/fanout.conf", "");
        assert!(!mirror.of(&dir.path().join("nginx.conf")).1);
    }

    #[test]
    fn includes_of_apache_and_php_fpm_are_found() {
        let apache = includes(
            Syntax::Apache,
            "# Include no\nIncludeOptional \"sites/*.conf\"\n  include x\nIncludes y\n",
        );
        let paths: Vec<_> = apache.into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["sites/*.conf", "x"]);
        let fpm = includes(
            Syntax::PhpFpm,
            ";include=no\ninclude=/a/*.conf\ninclude = /b\n",
        );
        let paths: Vec<_> = fpm.into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["/a/*.conf", "/b"]);
    }

    #[test]
    fn names_fit_patterns() {
        assert!(matches("8.2-*.conf", "8.2-x.conf") && matches("*", "") && matches("a?c", "abc"));
        assert!(!matches("8.2-*.conf", "8.3-x.conf") && !matches("a?c", "ac"));
    }
}
