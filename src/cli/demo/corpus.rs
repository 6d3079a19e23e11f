//! A generated platform: a tree with the shape of a large PHP application, the same for the same
//! seed on every machine.
//!
//! The full size is 20,000 files in about 5,000 directories, 100 MB: many files under 2 KiB, a
//! long tail up to a megabyte, text that compresses about as PHP does, some images that don't,
//! and a few identical licence files. The tests push it too.

use super::disk::Tree;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Number of files of the full size.
pub const FULL_FILES: usize = 20_000;

/// What was generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Regular files.
    pub files: usize,
    /// Directories, the root not counted.
    pub directories: usize,
    /// Bytes in the files.
    pub content_bytes: u64,
}

/// Writes a platform of `files` files to `directory`, which is made.
///
/// # Errors
/// If the disk refuses.
pub fn generated_platform(directory: &Path, files: usize, seed: u64) -> io::Result<Size> {
    let mut platform = Platform {
        tree: Tree::create(directory)?,
        generator: Generator::new(seed),
        written: HashSet::new(),
        size: Size::default(),
    };
    platform.write("index.php", Sort::Php)?;
    platform.write("core/lib/kernel.php", Sort::Php)?;
    let mut module = 0;
    while platform.size.files < files {
        platform.module(module, files)?;
        module += 1;
    }
    platform.size.directories = platform.tree.directories();
    Ok(platform.size)
}

/// What sort of file it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Php,
    Text,
    Image,
    Licence,
    Empty,
}

/// Where a module keeps what, and how many of each it has on average.
const PLACES: [(&str, &str, Sort, usize); 12] = [
    ("", "info.yml", Sort::Text, 4),
    ("", "LICENSE.txt", Sort::Licence, 1),
    ("src", "php", Sort::Php, 9),
    ("src/Form", "php", Sort::Php, 6),
    ("src/Plugin/Block", "php", Sort::Php, 8),
    ("src/Plugin/Field/FieldType", "php", Sort::Php, 6),
    ("config/install", "yml", Sort::Text, 8),
    ("config/schema", "schema.yml", Sort::Text, 1),
    ("templates", "html.twig", Sort::Text, 6),
    ("tests/src/Unit", "php", Sort::Php, 6),
    ("images", "png", Sort::Image, 3),
    ("translations", "po", Sort::Text, 3),
];

struct Platform {
    tree: Tree,
    generator: Generator,
    written: HashSet<String>,
    size: Size,
}

impl Platform {
    /// One module or vendor package: about sixty files in about fifteen directories.
    fn module(&mut self, number: usize, files: usize) -> io::Result<()> {
        let word = self.generator.word().to_owned();
        let base = match number % 5 {
            0 => format!("vendor/{word}{}/{word}-{number}", number % 40),
            1 => format!("core/modules/{word}_{number}"),
            2 => format!("themes/contrib/{word}_{number}"),
            3 => format!("sites/all/modules/{word}_{number}"),
            _ => format!("modules/contrib/{word}_{number}"),
        };
        for (place, extension, sort, usual) in PLACES {
            for index in 0..self.generator.below(2 * usual + 1) {
                if self.size.files >= files {
                    return Ok(());
                }
                let word = self.generator.word().to_owned();
                let is_empty = self.generator.below(300) == 0;
                let sort = if is_empty { Sort::Empty } else { sort };
                let path = match sort {
                    Sort::Licence => format!("{base}/LICENSE.txt"),
                    _ if place.is_empty() => format!("{base}/{word}{index}.{extension}"),
                    _ => format!("{base}/{place}/{word}{index}.{extension}"),
                };
                self.write(&path, sort)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, path: &str, sort: Sort) -> io::Result<()> {
        if !self.written.insert(path.to_owned()) {
            return Ok(());
        }
        let content = self.generator.content(sort, path);
        let seconds = 1_600_000_000 + self.generator.below(90_000_000) as u64;
        // Distinct nanoseconds, so that a copy that drops them is noticed.
        let age = Duration::new(seconds, 1_000 * (self.size.files % 1_000_000) as u32);
        let modified = SystemTime::UNIX_EPOCH + age;
        self.tree.write(path.as_bytes(), &content, modified)?;
        self.size.files += 1;
        self.size.content_bytes += content.len() as u64;
        Ok(())
    }
}

/// Content made of a stock of lines; popular lines are more likely, and every few lines one is
/// new.
pub(super) struct Generator {
    random: Random,
    words: Vec<String>,
    lines: Vec<Vec<u8>>,
    licence: Vec<u8>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        const SYLLABLES: [&str; 24] = [
            "con", "text", "ent", "ity", "node", "form", "field", "view", "user", "cache", "build",
            "er", "man", "age", "block", "type", "plug", "in", "val", "ue", "render", "array",
            "list", "able",
        ];
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let word = |random: &mut Random| {
            let syllables = 2 + random.below(3);
            (0..syllables)
                .map(|_| SYLLABLES[random.below(24)])
                .collect()
        };
        let words = (0..600).map(|_| word(&mut random)).collect();
        let mut generator = Self {
            random,
            words,
            lines: Vec::new(),
            licence: Vec::new(),
        };
        generator.lines = (0..2_000).map(|_| generator.new_line()).collect();
        let heading = "GNU GENERAL PUBLIC LICENSE\n".to_owned();
        generator.licence = generator.text(17_000, heading);
        generator
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit)
    }

    /// The content of one file.
    pub(super) fn content(&mut self, sort: Sort, name: &str) -> Vec<u8> {
        let size = self.random.file_size();
        match sort {
            Sort::Empty => Vec::new(),
            Sort::Licence => self.licence.clone(),
            Sort::Image => (0..size).map(|_| self.random.next() as u8).collect(),
            Sort::Text => self.text(size, format!("# {name}\n")),
            Sort::Php => {
                let head = format!("<?php\n\n/**\n * @file\n * {name}\n */\n\n");
                self.text(size, head)
            }
        }
    }

    /// A line that files share.
    pub(super) fn line(&mut self) -> &[u8] {
        // The square of a uniform number makes the first lines the popular ones.
        let at = self.below(2_000) * self.below(2_000) / 2_000;
        &self.lines[at]
    }

    fn word(&mut self) -> &str {
        let at = self.random.below(self.words.len());
        &self.words[at]
    }

    fn text(&mut self, size: usize, head: String) -> Vec<u8> {
        let mut content = head.into_bytes();
        while content.len() < size {
            if self.below(3) == 0 {
                let line = self.new_line();
                content.extend_from_slice(&line);
            } else {
                content.extend_from_slice(self.line());
            }
        }
        content
    }

    fn new_line(&mut self) -> Vec<u8> {
        let shape = self.below(8);
        let (a, b, c) = (
            self.word().to_owned(),
            self.word().to_owned(),
            self.word().to_owned(),
        );
        let n = self.below(10_000);
        let line = match shape {
            0 => format!("    $this->{a} = ${b}->{c}('{n}');\n"),
            1 => format!("    if (!empty(${a}['{b}'])) {{\n      return ${c};\n    }}\n"),
            2 => format!("  public function {a}(array ${b}, ${c} = {n}) {{\n"),
            3 => format!("   * The {a} {b} of the {c}, see issue {n}.\n"),
            4 => "  }\n\n".to_owned(),
            5 => format!("use Drupal\\{a}\\{b}\\{c};\n"),
            6 => format!("      '#{a}' => t('{b} {c}'),\n"),
            _ => format!("    ${a}[] = ['{b}' => {n}, '{c}' => NULL];\n"),
        };
        line.into_bytes()
    }
}

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 24
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Sizes in bytes as source trees have them: half below 2 KiB, one in a thousand near 1 MiB.
    fn file_size(&mut self) -> usize {
        match self.below(1_000) {
            0..500 => 100 + self.below(1_900),
            500..850 => 2_000 + self.below(4_000),
            850..970 => 7_000 + self.below(8_000),
            970..999 => 20_000 + self.below(20_000),
            _ => 300_000 + self.below(900_000),
        }
    }
}
