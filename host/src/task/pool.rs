//! The worker pool: a fixed number of threads that run the tasks of all stages.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, unbounded};

use crate::error::{Error, Explain, Fault};

type Work = Box<dyn FnOnce() + Send>;

/// Threads that run tasks.
///
/// Its queue has no bound of its own: the scheduler gives it the tasks of one stage at a time and waits for them.
#[derive(Debug)]
pub struct WorkerPool {
    queue: Option<Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

/// A task panicked: a bug of the host, or of a source, step or sink that a program brings.
#[derive(Debug, thiserror::Error)]
#[error("a task panicked: {message}")]
pub struct TaskPanicked {
    /// What the panic said.
    pub message: String,
}

impl Explain for TaskPanicked {
    fn fault(&self) -> Fault {
        Fault::Host
    }

    fn hint(&self) -> Option<String> {
        Some(
            "This is a bug in Tidemill, or in a source or sink of the program that embeds it: please report it.".into(),
        )
    }
}

impl WorkerPool {
    /// Starts `n_threads` threads; 0: one a core.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(n_threads: u32) -> std::io::Result<Self> {
        let n_threads = match n_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n as usize,
        };
        let (queue, work) = unbounded::<Work>();
        let threads = (0..n_threads).map(|index| {
            let work = work.clone();
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                for task in work {
                    task();
                }
            })
        });
        Ok(Self { queue: Some(queue), threads: threads.collect::<Result<_, _>>()? })
    }

    /// How many threads it has.
    #[must_use]
    pub fn n_threads(&self) -> usize {
        self.threads.len()
    }

    /// Runs tasks and gives their results in the tasks' order, when all have ended.
    pub fn run<T: Send + 'static>(
        &self,
        tasks: Vec<Box<dyn FnOnce() -> Result<T, Error> + Send>>,
    ) -> Vec<Result<T, Error>> {
        let n_tasks = tasks.len();
        let (sender, results) = unbounded();
        for (index, task) in tasks.into_iter().enumerate() {
            let sender = sender.clone();
            let work: Work = Box::new(move || {
                // A panic must end the task, not the worker: state that a task shares is behind locks that recover.
                let result = catch_unwind(AssertUnwindSafe(task)).unwrap_or_else(|panic| Err(panicked(&*panic).into()));
                // Nobody waits when the pool is dropped in between.
                let _ = sender.send((index, result));
            });
            if let Some(queue) = &self.queue {
                // The workers hold the other end for as long as the pool lives.
                let _ = queue.send(work);
            }
        }
        drop(sender);
        let mut ended: Vec<Option<Result<T, Error>>> = (0..n_tasks).map(|_| None).collect();
        for (index, result) in results {
            ended[index] = Some(result);
        }
        let lost = || Err(TaskPanicked { message: "the worker that ran it is gone".into() }.into());
        ended.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
    }
}

/// What a panic said, as an error.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> TaskPanicked {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".into());
    TaskPanicked { message }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A worker catches what its tasks panic with; nothing is left to report.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_panic_is_an_error() {
        let pool = WorkerPool::start(3).expect("threads");
        let tasks: Vec<Box<dyn FnOnce() -> Result<u32, Error> + Send>> = (0..50)
            .map(|n| -> Box<dyn FnOnce() -> Result<u32, Error> + Send> {
                Box::new(move || if n == 17 { panic!("seventeen") } else { Ok(n) })
            })
            .collect();
        let results = pool.run(tasks);
        assert_eq!(results.len(), 50);
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(n) => assert_eq!(n as usize, index),
                Err(error) => assert_eq!((index, error.to_string().as_str()), (17, "a task panicked: seventeen")),
            }
        }
    }
}
