//! A job file of the original, as its `RemoteJob.to_dict()` writes it.

use std::{fs::File, io::Read};

use api::{import::ImportRequest, result::ResultDocument};
use domain::{ContentType, JobId, Status};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{NotTaken, storage::Stored};

/// The largest job file that is read. The content of one comes whole in it.
const LARGEST: u64 = 64 << 20;

/// What the original writes, as far as it is of use here. Python writes `null` for what there is not.
#[derive(Deserialize)]
struct JobFile {
    job_id: Option<String>,
    id: Option<String>,
    ingestion_task_id: Option<String>,
    source_file_path: Option<String>,
    content_type: Option<String>,
    task_options: Option<Map<String, Value>>,
    status: Option<String>,
    worker_id: Option<String>,
    created_at: Option<String>,
    started_at: Option<String>,
    completed_at: Option<String>,
    error_message: Option<String>,
    result_data: Option<ResultData>,
    retry_count: Option<u64>,
    max_retries: Option<u64>,
}

#[derive(Deserialize)]
struct ResultData {
    content: Option<String>,
    metadata: Option<Map<String, Value>>,
    processing_time: Option<f64>,
}

/// Reads a job file, and checks what would be refused only after its source had been uploaded.
pub(super) fn read(stored: &Stored) -> Result<ImportRequest, NotTaken> {
    let not_taken = |why: String| NotTaken::because(&stored.path, &why);
    let mut text = Vec::new();
    let file = File::open(&stored.path).map_err(|source| NotTaken::unreadable(&stored.path, source))?;
    file.take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(|source| NotTaken::unreadable(&stored.path, source))?;
    if text.len() as u64 > LARGEST {
        return Err(not_taken(format!("It is larger than {} MiB, which no job file is.", LARGEST >> 20)));
    }
    parsed(&text).and_then(|job| request(job, stored.status)).map_err(not_taken)
}

fn parsed(text: &[u8]) -> Result<JobFile, String> {
    let fields: Map<String, Value> = serde_json::from_slice(text).map_err(|error| {
        if error.is_data() {
            "It holds no JSON object, so it is no job file; move it away.".to_owned()
        } else {
            broken(&error)
        }
    })?;
    serde_path_to_error::deserialize(Value::Object(fields))
        .map_err(|error| format!("Its field `{}` cannot be used ({}); mend it.", error.path(), error.inner()))
}

fn broken(error: &serde_json::Error) -> String {
    format!("It is not valid JSON ({error}); mend it or move it away.")
}

fn request(job: JobFile, folder: Status) -> Result<ImportRequest, String> {
    let job_id = match (&job.job_id, &job.id) {
        (Some(job_id), Some(id)) if job_id != id => {
            return Err(format!(
                "Its fields `job_id` ({job_id}) and `id` ({id}) disagree; take the wrong one out."
            ));
        }
        (Some(id), _) | (None, Some(id)) => checked_id(id)?,
        (None, None) => return Err("It has no `job_id`; write the job's id into it.".to_owned()),
    };
    check_status(job.status.as_deref(), folder)?;
    let content_type = needed("content_type", job.content_type)?;
    let content_type: ContentType =
        content_type.parse().map_err(|error| format!("Its `content_type` {content_type:?} {error}."))?;
    let result_data = job.result_data.map(|result| ResultDocument {
        content: result.content.unwrap_or_default(),
        metadata: result.metadata.unwrap_or_default(),
        processing_time: result.processing_time,
    });
    if folder == Status::Completed && result_data.is_none() {
        return Err(
            "It is completed and has no `result_data`; move it to `failed` if its result is lost.".to_owned()
        );
    }
    Ok(ImportRequest {
        job_id,
        status: folder,
        content_type,
        source_file_path: needed("source_file_path", job.source_file_path)?,
        task_options: job.task_options.unwrap_or_default(),
        ingestion_task_id: needed("ingestion_task_id", job.ingestion_task_id)?,
        worker_id: job.worker_id,
        created_at: needed("created_at", job.created_at)?,
        started_at: job.started_at,
        completed_at: job.completed_at,
        error_message: job.error_message,
        result_data,
        retry_count: job.retry_count,
        max_retries: job.max_retries,
    })
}

fn checked_id(id: &str) -> Result<String, String> {
    match id.parse::<JobId>() {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(format!("Its id {id:?} is no UUID, as the ids of the original's jobs are.")),
    }
}

/// Which of the two is right cannot be known here, so neither is believed.
fn check_status(status: Option<&str>, folder: Status) -> Result<(), String> {
    match status {
        Some(status) if status == folder.as_str() => Ok(()),
        Some(status) if Status::ALL.iter().any(|known| known.as_str() == status) => Err(format!(
            "Its `status` is {status} and its folder is {folder}; move it or mend it, whichever is wrong."
        )),
        Some(status) => Err(format!("Its `status` {status:?} is none of the original's; mend it.")),
        None => Err(format!("It has no `status`; write {folder} into it if that is what it is.")),
    }
}

fn needed(field: &str, value: Option<String>) -> Result<String, String> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("It has no `{field}`; write it into the file."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "8f14e45f-ceea-467f-a0e6-5d4a3b2c1d0e";

    fn file(change: &Value) -> Value {
        let mut file = json!({
            "job_id": ID, "ingestion_task_id": "task-1", "source_file_path": "/uploads/talk.mp3",
            "content_type": "audio", "task_options": {"language": "en"}, "status": "completed",
            "worker_id": "gpu-1", "created_at": "2025-03-01T10:00:00.123456", "started_at": "2025-03-01T10:00:05",
            "completed_at": "2025-03-01T10:01:00", "error_message": null,
            "result_data": {"content": "# Talk", "metadata": {"duration": 12.5}, "processing_time": 55.0},
            "retry_count": 1, "max_retries": 3, "timeout_at": "2025-03-01T11:00:00",
        });
        file.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        file
    }

    fn taken(file: &Value, folder: Status) -> Result<ImportRequest, String> {
        parsed(file.to_string().as_bytes()).and_then(|job| request(job, folder))
    }

    #[test]
    fn what_the_original_writes_is_what_is_imported() {
        let request = taken(&file(&json!({})), Status::Completed).unwrap();
        let mut expected = file(&json!({}));
        // Whatever has its limits from the original's timeout gets new ones here.
        expected.as_object_mut().unwrap().retain(|name, _| name != "timeout_at" && name != "error_message");
        assert_eq!(serde_json::to_value(request).unwrap(), expected);
    }

    #[test]
    fn older_files_have_the_id_under_another_name() {
        let mut old = file(&json!({"id": ID.to_uppercase()}));
        old.as_object_mut().unwrap().remove("job_id");
        assert_eq!(taken(&old, Status::Completed).unwrap().job_id, ID);
        assert_eq!(taken(&file(&json!({"id": ID})), Status::Completed).unwrap().job_id, ID);
    }

    #[test]
    fn nulls_are_what_there_is_not() {
        let nulls = json!({
            "status": "pending", "worker_id": null, "started_at": null, "completed_at": null, "result_data": null,
            "task_options": null, "retry_count": null, "max_retries": null,
        });
        let request = taken(&file(&nulls), Status::Pending).unwrap();
        assert!(
            request.worker_id.is_none() && request.result_data.is_none() && request.task_options.is_empty()
        );
        let bare = json!({"result_data": {"content": null, "metadata": null, "processing_time": null}});
        assert_eq!(
            taken(&file(&bare), Status::Completed).unwrap().result_data,
            Some(ResultDocument::default())
        );
    }

    #[test]
    fn what_cannot_be_taken_says_which_field_is_at_fault() {
        for (change, words) in [
            (json!({"job_id": null}), "no `job_id`"),
            (json!({"job_id": "7"}), "\"7\" is no UUID"),
            (json!({"job_id": 7}), "`job_id` cannot be used"),
            (
                json!({"id": "other"}),
                "`job_id` (8f14e45f-ceea-467f-a0e6-5d4a3b2c1d0e) and `id` (other) disagree",
            ),
            (json!({"status": null}), "no `status`; write completed"),
            (json!({"status": "pending"}), "`status` is pending and its folder is completed"),
            (json!({"status": "done"}), "`status` \"done\" is none"),
            (json!({"content_type": "music"}), "`content_type` \"music\" is not a content type"),
            (json!({"content_type": null}), "no `content_type`"),
            (json!({"source_file_path": ""}), "no `source_file_path`"),
            (json!({"ingestion_task_id": null}), "no `ingestion_task_id`"),
            (json!({"created_at": null}), "no `created_at`"),
            (json!({"result_data": null}), "no `result_data`"),
            (json!({"result_data": {"metadata": []}}), "`result_data.metadata` cannot be used"),
            (json!({"retry_count": -1}), "`retry_count` cannot be used"),
        ] {
            let why = taken(&file(&change), Status::Completed).unwrap_err();
            assert!(why.contains(words), "{change}: {why}");
        }
    }

    #[test]
    fn broken_files_are_told_with_the_place() {
        for text in ["", "{\"job_id\": ", "{\"job_id\": NaN}", "{} {}", "\u{feff}{}"] {
            let why = parsed(text.as_bytes()).map(drop).unwrap_err();
            assert!(why.contains("not valid JSON") && why.contains("line 1"), "{text}: {why}");
        }
        for text in ["[]", "[1", "7"] {
            let why = parsed(text.as_bytes()).map(drop).unwrap_err();
            assert!(why.contains("no JSON object"), "{why}");
        }
    }

    #[test]
    fn a_file_that_is_gone_or_too_large_is_told() {
        let folder = tempfile::TempDir::new().unwrap();
        let stored = Stored { path: folder.path().join("a.json"), status: Status::Failed };
        assert_eq!(read(&stored).unwrap_err().failure.code(), 7);
        File::create(&stored.path).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(read(&stored).unwrap_err().failure.to_string().contains("larger than 64 MiB"));
    }
}
