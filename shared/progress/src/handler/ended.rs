use std::collections::{HashSet, VecDeque};

/// How many completed jobs are remembered.
const MOST: usize = 1000;

/// The jobs that were completed last. A line that comes late must not begin one again.
#[derive(Debug, Default)]
pub(super) struct Ended {
    jobs: HashSet<String>,
    /// In the order of their completion; some may have been removed since.
    order: VecDeque<String>,
}

impl Ended {
    pub(super) fn contains(&self, job_id: &str) -> bool {
        self.jobs.contains(job_id)
    }

    pub(super) fn insert(&mut self, job_id: &str) {
        if self.jobs.insert(job_id.to_owned()) {
            self.order.push_back(job_id.to_owned());
        }
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.jobs.remove(&oldest);
            }
        }
    }

    pub(super) fn remove(&mut self, job_id: &str) {
        if self.jobs.remove(job_id) {
            self.order.retain(|ended| ended != job_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut ended = Ended::default();
        for job in 0..MOST * 3 {
            ended.insert(&job.to_string());
            ended.insert(&job.to_string());
        }
        assert_eq!((ended.jobs.len(), ended.order.len()), (MOST, MOST));
        assert!(ended.contains(&(MOST * 2).to_string()) && !ended.contains(&(MOST * 2 - 1).to_string()));
        ended.remove(&(MOST * 2).to_string());
        assert!(!ended.contains(&(MOST * 2).to_string()));
        assert_eq!(ended.order.len(), MOST - 1);
    }
}
