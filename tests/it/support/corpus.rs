//! A generated platform: a tree with the shape of a large PHP application, the same for the same
//! seed on every machine.
//!
//! The full size is 20,000 files in about 5,000 directories, 100 MB: many files under 2 KiB, a
//! long tail up to megabytes, text that compresses about as PHP does, some images that don't, and
//! a few identical licence files. Needs nothing but the standard library.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Number of files of the full size.
pub(crate) const FULL_FILES: usize = 20_000;

/// What was generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) files: usize,
    pub(crate) directories: usize,
    pub(crate) content_bytes: u64,
}

/// Writes a platform of `files` files to `directory`, which is made.
///
/// # Errors
/// If the disk refuses.
pub(crate) fn generated_platform(directory: &Path, files: usize, seed: u64) -> io::Result<Size> {
    let mut generator = Generator::new(directory, seed);
    generator.write("index.php", Sort::Php)?;
    generator.write("core/lib/kernel.php", Sort::Php)?;
    let mut module = 0;
    while generator.size.files < files {
        generator.module(module, files)?;
        module += 1;
    }
    Ok(generator.size)
}

/// Turns the platform into its next release: of every hundred files about three change in a few
/// lines, one is added and one removed, and one module moves. Returns how many files changed.
///
/// # Errors
/// If the disk refuses.
pub(crate) fn next_release(directory: &Path, seed: u64) -> io::Result<usize> {
    let mut generator = Generator::new(directory, seed);
    let mut files = Vec::new();
    list_files(directory, &mut files)?;
    files.sort();
    let mut changed = 0;
    for path in files {
        match generator.random.below(100) {
            0..3 => {
                let mut content = fs::read(&path)?;
                let at = generator.random.below(content.len() + 1);
                let line = generator.text.line(&mut generator.random).to_vec();
                content.splice(at..at, line);
                fs::write(&path, content)?;
            }
            3 => {
                let name = format!("added{}.php", generator.random.below(1_000_000));
                let content = generator.content(Sort::Php, &name);
                fs::write(path.with_file_name(name), content)?;
            }
            4 => fs::remove_file(&path)?,
            _ => continue,
        }
        changed += 1;
    }
    let modules = directory.join("sites/all/modules");
    if let Ok(entries) = fs::read_dir(&modules) {
        let mut names: Vec<_> = entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        if let Some(name) = names.first() {
            fs::rename(modules.join(name), modules.join("moved"))?;
        }
    }
    Ok(changed)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Php,
    Text,
    Image,
    Licence,
    Empty,
}

struct Generator {
    directory: PathBuf,
    random: Random,
    text: Text,
    size: Size,
}

impl Generator {
    fn new(directory: &Path, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let text = Text::new(&mut random);
        Self {
            directory: directory.to_owned(),
            random,
            text,
            size: Size::default(),
        }
    }

    /// One module or vendor package: about sixty files in about fifteen directories.
    fn module(&mut self, number: usize, files: usize) -> io::Result<()> {
        let word = self.text.word(&mut self.random).to_owned();
        let base = match number % 5 {
            0 => format!("vendor/{word}{}/{word}-{number}", number % 40),
            1 => format!("core/modules/{word}_{number}"),
            2 => format!("themes/contrib/{word}_{number}"),
            3 => format!("sites/all/modules/{word}_{number}"),
            _ => format!("modules/contrib/{word}_{number}"),
        };
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
        for (place, extension, sort, usual) in PLACES {
            for index in 0..self.random.below(2 * usual + 1) {
                if self.size.files >= files {
                    return Ok(());
                }
                let word = self.text.word(&mut self.random);
                let sort = if self.random.below(300) == 0 {
                    Sort::Empty
                } else {
                    sort
                };
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
        let full = self.directory.join(path);
        if full.exists() {
            return Ok(());
        }
        let parent = full.parent().unwrap_or(&self.directory).to_owned();
        self.make_directory(&parent)?;
        let content = self.content(sort, path);
        let mut file = fs::File::create_new(&full)?;
        file.write_all(&content)?;
        let age = Duration::new(
            self.random.below(90_000_000) as u64,
            1_000 * self.size.files as u32,
        );
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000) + age)?;
        self.size.files += 1;
        self.size.content_bytes += content.len() as u64;
        Ok(())
    }

    fn make_directory(&mut self, directory: &Path) -> io::Result<()> {
        if directory.exists() {
            return Ok(());
        }
        if let Some(parent) = directory.parent().filter(|_| directory != self.directory) {
            self.make_directory(parent)?;
            self.size.directories += 1;
            return fs::create_dir(directory);
        }
        fs::create_dir_all(directory)
    }

    fn content(&mut self, sort: Sort, name: &str) -> Vec<u8> {
        let size = self.random.file_size();
        match sort {
            Sort::Empty => Vec::new(),
            Sort::Licence => self.text.licence.clone(),
            Sort::Image => (0..size).map(|_| self.random.next() as u8).collect(),
            Sort::Text => self
                .text
                .lines(&mut self.random, size, format!("# {name}\n")),
            Sort::Php => {
                let head = format!("<?php\n\n/**\n * @file\n * {name}\n */\n\n");
                self.text.lines(&mut self.random, size, head)
            }
        }
    }
}

/// A stock of lines that files are put together from; popular lines are more likely, and every
/// few lines one is new.
struct Text {
    words: Vec<String>,
    lines: Vec<Vec<u8>>,
    licence: Vec<u8>,
}

impl Text {
    fn new(random: &mut Random) -> Self {
        const SYLLABLES: [&str; 24] = [
            "con", "text", "ent", "ity", "node", "form", "field", "view", "user", "cache", "build",
            "er", "man", "age", "block", "type", "plug", "in", "val", "ue", "render", "array",
            "list", "able",
        ];
        let mut words = Vec::new();
        for _ in 0..600 {
            let syllables = 2 + random.below(3);
            words.push(
                (0..syllables)
                    .map(|_| SYLLABLES[random.below(24)])
                    .collect::<String>(),
            );
        }
        let mut text = Self {
            words,
            lines: Vec::new(),
            licence: Vec::new(),
        };
        for _ in 0..2_000 {
            let line = text.new_line(random);
            text.lines.push(line);
        }
        text.licence = text.lines(random, 17_000, "GNU GENERAL PUBLIC LICENSE\n".to_owned());
        text
    }

    fn word(&self, random: &mut Random) -> &str {
        &self.words[random.below(self.words.len())]
    }

    /// A line that files share.
    fn line(&self, random: &mut Random) -> &[u8] {
        // The square of a uniform number makes the first lines the popular ones.
        let at = random.below(2_000) * random.below(2_000) / 2_000;
        &self.lines[at]
    }

    fn lines(&self, random: &mut Random, size: usize, head: String) -> Vec<u8> {
        let mut content = head.into_bytes();
        while content.len() < size {
            if random.below(3) == 0 {
                content.extend_from_slice(&self.new_line(random));
            } else {
                content.extend_from_slice(self.line(random));
            }
        }
        content
    }

    fn new_line(&self, random: &mut Random) -> Vec<u8> {
        let shape = random.below(8);
        let (a, b, c) = (self.word(random), self.word(random), self.word(random));
        let n = random.below(10_000);
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

fn list_files(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
