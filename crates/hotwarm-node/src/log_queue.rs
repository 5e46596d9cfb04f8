//! The way of log lines to where they are written: a bounded queue and one thread, so that nobody who logs ever waits
//! for a pipe that is not read or for a slow disk.
//!
//! Where the queue is full, lines are dropped and counted, and the count is told as soon as something can be written
//! again. [`LogQueue::flush`] waits for what is queued, at the end of a process.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// What may wait, in bytes: some thousand lines.
const WAITING_SIZE_BYTES_MAX: usize = 1 << 20;
/// What a waiting line takes beside its text.
const LINE_SIZE_BYTES: usize = size_of::<Vec<u8>>();

/// See the module. A clone is the same queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    size_bytes: usize,
    /// Lines that found no room and were not told of yet.
    dropped: u64,
    /// A line was taken and may not be written yet.
    writes: bool,
}

impl LogQueue {
    /// A queue whose thread writes to `out`, and calls `tell_dropped` with how many lines were lost, after it could
    /// write again. What cannot be written is lost: there is no other place to tell it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(
        mut out: impl Write + Send + 'static,
        tell_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Self::default();
        let mine = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let (line, dropped) = mine.next();
                let _ = out.write_all(&line).and_then(|()| out.flush());
                if dropped > 0 {
                    // Not under the lock: it may well log.
                    tell_dropped(dropped);
                }
            }
        })?;
        Ok(queue)
    }

    /// Waits until all that was logged before is written, for as long as `limit`. `false`: it is not.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let is_busy = |waiting: &mut Waiting| waiting.writes || !waiting.lines.is_empty();
        let waited = self.0.changed.wait_timeout_while(self.lock(), limit, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Takes the oldest line, once there is one, and the number of those that were dropped.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut waiting = self.lock();
        waiting.writes = false;
        self.0.changed.notify_all();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.size_bytes -= line.len() + LINE_SIZE_BYTES;
                waiting.writes = true;
                return (line, std::mem::take(&mut waiting.dropped));
            }
            waiting = self.0.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn push(&self, line: &[u8]) {
        let size_bytes = line.len() + LINE_SIZE_BYTES;
        let mut waiting = self.lock();
        if waiting.size_bytes + size_bytes > WAITING_SIZE_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.size_bytes += size_bytes;
        waiting.lines.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each event is formatted whole and written by one call: a line.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogQueue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// What writes only when the test lets it: it says that it has a line, then waits for the leave to go on.
    struct Gate {
        lines: mpsc::Sender<Vec<u8>>,
        leave: mpsc::Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.lines.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.leave.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        queue: LogQueue,
        lines: mpsc::Receiver<Vec<u8>>,
        leave: mpsc::Sender<()>,
    }

    impl Scene {
        fn new() -> Self {
            let ((line, lines), (leave, left)) = (mpsc::channel(), mpsc::channel());
            let told: Arc<Mutex<Option<LogQueue>>> = Arc::default();
            let to = Arc::clone(&told);
            let tell = move |count| to.lock().unwrap().as_ref().unwrap().push(format!("dropped {count}").as_bytes());
            let queue = LogQueue::start(Gate { lines: line, leave: left }, tell).unwrap();
            *told.lock().unwrap() = Some(queue.clone());
            Self { queue, lines, leave }
        }

        fn next(&self) -> String {
            String::from_utf8(self.lines.recv_timeout(TIMEOUT).unwrap()).unwrap()
        }
    }

    #[test]
    fn whoever_logs_does_not_wait_and_what_was_dropped_is_told() {
        let scene = Scene::new();
        scene.queue.push(b"first");
        assert_eq!(scene.next(), "first");
        // From here on nothing is written, and yet nobody waits.
        let line = [b'x'; 1000];
        let fit = WAITING_SIZE_BYTES_MAX / (line.len() + LINE_SIZE_BYTES);
        for _ in 0..fit + 7 {
            scene.queue.push(&line);
        }
        assert!(!scene.queue.flush(Duration::from_millis(1)));
        for _ in 0..fit {
            scene.leave.send(()).unwrap();
            assert_eq!(scene.next().len(), line.len());
        }
        scene.leave.send(()).unwrap();
        assert_eq!(scene.next(), "dropped 7");
        scene.leave.send(()).unwrap();
        assert!(scene.queue.flush(TIMEOUT));
        assert_eq!(scene.queue.lock().size_bytes, 0);
        // It is told once.
        scene.queue.push(b"last");
        assert_eq!(scene.next(), "last");
        scene.leave.send(()).unwrap();
        assert!(scene.queue.flush(TIMEOUT));
        assert!(scene.lines.try_recv().is_err());
    }

    #[test]
    fn the_end_waits_for_what_is_queued() {
        let scene = Scene::new();
        scene.queue.push(b"one");
        scene.queue.push(b"two");
        let flushing = {
            let queue = scene.queue.clone();
            thread::spawn(move || queue.flush(TIMEOUT))
        };
        for line in ["one", "two"] {
            assert_eq!(scene.next(), line);
            assert!(!flushing.is_finished());
            scene.leave.send(()).unwrap();
        }
        assert!(flushing.join().unwrap());
    }
}
