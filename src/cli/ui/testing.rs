//! A mouth whose words can be read back.

use super::*;

/// What was written to one of the two streams.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn global() -> GlobalArgs {
    GlobalArgs {
        dir: None,
        json: false,
        quiet: false,
        verbose: 0,
        color: ColorWhen::Never,
    }
}

/// The mouth, its standard output and its standard error.
pub(crate) fn captured(global: &GlobalArgs) -> (Ui, Written, Written) {
    let (out, err) = (Written::default(), Written::default());
    let ui = Ui::with_writers(global, false, Box::new(out.clone()), Box::new(err.clone()));
    (ui, out, err)
}

/// A mouth whose standard output fails in this way.
pub(crate) fn failing(kind: io::ErrorKind) -> Ui {
    struct Fails(io::ErrorKind);
    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    Ui::with_writers(
        &global(),
        false,
        Box::new(Fails(kind)),
        Box::new(Written::default()),
    )
}
