//! A file that is continued in a new one when it is large: `audit.jsonl`, and before it `audit.jsonl.1`,
//! `audit.jsonl.2` and so on.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// Who is on which address is nobody's business but the operator's.
const MODE: u32 = 0o640;

/// A file of lines. All of it blocks.
pub(super) struct RotatedFile {
    path: PathBuf,
    file: File,
    len: u64,
    max_len: u64,
    /// Former files that are kept.
    kept: u32,
}

impl RotatedFile {
    /// Goes on where the file ends, or makes it.
    pub(super) fn open(path: PathBuf, max_len: u64, kept: u32) -> io::Result<Self> {
        let (file, len) = open(&path)?;
        Ok(Self { path, file, len, max_len, kept })
    }

    /// Goes on in the file that has the name now, if the former was moved away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.len) = open(&self.path)?;
        Ok(())
    }

    /// Appends lines, all of them to the same file.
    pub(super) fn append(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        if self.len > 0 && self.len + text.len() as u64 > self.max_len {
            self.rotate()?;
        }
        self.file.write_all(text.as_bytes())?;
        self.len += text.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (0..self.kept).rev() {
            match std::fs::rename(self.former(number), self.former(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.kept == 0 {
            std::fs::remove_file(&self.path)?;
        }
        self.reopen()
    }

    /// 0 is the file itself.
    fn former(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

/// The file and its length. A line that a crash cut off is ended.
fn open(path: &PathBuf) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
    let mut len = file.metadata()?.len();
    let mut last = [0];
    if len > 0 && file.read_at(&mut last, len - 1)? == 1 && last != *b"\n" {
        file.write_all(b"\n")?;
        len += 1;
    }
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &std::path::Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn large_files_are_kept_up_to_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let former = |number| dir.path().join(format!("audit.jsonl.{number}"));
        let mut file = RotatedFile::open(path.clone(), 12, 2).unwrap();
        for line in ["one", "two", "three", "four", "five", "six", "seven"] {
            file.append(&[line.to_owned()]).unwrap();
        }
        assert_eq!(text(&path), "seven\n");
        assert_eq!(text(&former(1)), "five\nsix\n");
        assert_eq!(text(&former(2)), "three\nfour\n");
        assert!(!former(3).exists());
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("audit.jsonl"), dir.path().join("away"));
        let mut file = RotatedFile::open(path.clone(), 1_000, 1).unwrap();
        file.append(&["one".to_owned()]).unwrap();
        std::fs::rename(&path, &away).unwrap();
        file.append(&["two".to_owned()]).unwrap();
        file.reopen().unwrap();
        file.append(&["three".to_owned()]).unwrap();
        assert_eq!((text(&away), text(&path)), ("one\ntwo\n".to_owned(), "three\n".to_owned()));
    }

    #[test]
    fn a_line_that_a_crash_cut_off_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, "whole\nhal").unwrap();
        let mut file = RotatedFile::open(path.clone(), 1_000, 1).unwrap();
        file.append(&["next".to_owned()]).unwrap();
        assert_eq!(text(&path), "whole\nhal\nnext\n");
    }

    #[test]
    fn without_former_files_the_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut file = RotatedFile::open(path.clone(), 5, 0).unwrap();
        file.append(&["one".to_owned()]).unwrap();
        file.append(&["two".to_owned()]).unwrap();
        assert_eq!(text(&path), "two\n");
    }
}
