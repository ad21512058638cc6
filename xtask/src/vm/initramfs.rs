//! The file system that a machine starts with: a cpio archive of the `newc` kind.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, Result};

/// An archive being written.
#[derive(Debug)]
pub(crate) struct Archive<W> {
    out: W,
    /// Files are told apart by it.
    inode: u32,
    /// How much has been written: each part is padded to four bytes.
    length: usize,
}

impl Archive<BufWriter<File>> {
    /// Starts an archive.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let out = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self::new(BufWriter::new(out)))
    }
}

impl<W: Write> Archive<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            inode: 0,
            length: 0,
        }
    }

    /// Adds a directory, whose parent is there.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        self.named(path, DIRECTORY, &[])
    }

    /// Adds a file that root may run.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.named(path, EXECUTABLE, content)
    }

    /// Adds a file that nobody runs.
    pub(crate) fn data(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.named(path, DATA, content)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, to: &str) -> Result<()> {
        self.named(path, LINK, to.as_bytes())
    }

    fn named(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.entry(path, mode, content)
            .with_context(|| format!("cannot archive {path}"))
    }

    /// Ends the archive: without its last entry the kernel takes it for damaged.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush().context("cannot write the archive")?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).context("larger than cpio can hold")?;
        let path_size = u32::try_from(path.len() + 1).context("a long path")?;
        let links = 1;
        // Inode, mode, owner, group, links, time, size, four device numbers, path size, no sum.
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, path_size, 0,
        ];
        self.write(b"070701")?;
        for field in fields {
            self.write(format!("{field:08x}").as_bytes())?;
        }
        self.write(path.as_bytes())?;
        self.write(&[0])?;
        self.pad()?;
        self.write(content)?;
        self.pad()?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.length.next_multiple_of(4) - self.length;
        self.write(&[0; 4][..missing])
    }
}

/// Where a machine has its programs.
pub(crate) const PROGRAMS: &str = "/bin";
/// Where a machine has the tests.
pub(crate) const TESTS: &str = "/tests";
/// Where a machine has its kernel modules.
pub(crate) const MODULES: &str = "/modules";

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const DATA: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

#[cfg(test)]
mod tests {
    use super::*;

    /// What an archive has, read back by the rules of the format.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |at: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * at..14 + 8 * at]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, path_size) = (field(1), field(6) as usize, field(11) as usize);
            let path = String::from_utf8(bytes[110..110 + path_size - 1].to_vec()).unwrap();
            assert_eq!(bytes[110 + path_size - 1], 0);
            let start = (110 + path_size).next_multiple_of(4);
            let content = bytes[start..start + size].to_vec();
            bytes = &bytes[(start + size).next_multiple_of(4)..];
            if path == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((path, mode, content));
        }
    }

    #[test]
    fn what_is_archived_can_be_read_back() {
        let mut archive = Archive::new(Vec::new());
        archive.entry("bin", DIRECTORY, &[]).unwrap();
        for length in 0..9 {
            archive
                .file(&format!("/bin/{}", "x".repeat(length)), &vec![7; length])
                .unwrap();
        }
        let entries = read(&archive.finish().unwrap());
        assert_eq!(entries.len(), 10);
        assert_eq!(entries[0], ("bin".to_owned(), 0o040_755, vec![]));
        assert_eq!(entries[5], ("bin/xxxx".to_owned(), 0o100_755, vec![7; 4]));
    }

    #[test]
    fn the_first_bytes_are_those_of_the_format() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/init", b"go").unwrap();
        let bytes = archive.finish().unwrap();
        let header = "070701\
                      00000001000081ed00000000000000000000000100000000\
                      0000000200000000000000000000000000000000\
                      0000000500000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(&bytes[110..120], b"init\0\0go\0\0");
    }
}
