//! `POST /uploads` and `POST /{id}/result-upload`, with `/parts`, `/complete` and `/abort`.

use api::{
    result::ResultRequest,
    uploads::{
        AbortUploadRequest, CompleteUploadRequest, CreateResultUploadRequest, CreateUploadRequest,
        PartToSign, SignPartsRequest, UploadResponse, UploadedPart,
    },
};
use service::{Error, UploadTarget};

use crate::support::{
    Held, Place, caller, caller_of, field, full_problem, not_found, problem, request, sha256, stale,
};

const MIB: u64 = 1 << 20;

fn upload(name: &str, size_bytes: u64, sha256: [u8; 32]) -> CreateUploadRequest {
    CreateUploadRequest { filename: name.to_owned(), size_bytes, sha256 }
}

async fn begun(place: &Place, size_bytes: u64) -> UploadResponse {
    place.create_upload(&caller(), &upload("talk.mp4", size_bytes, [1; 32]), None).await.unwrap()
}

fn part(part_number: u64, size_bytes: u64) -> PartToSign {
    PartToSign { part_number, size_bytes, sha256: [2; 32] }
}

fn to_sign(upload: &UploadResponse, parts: Vec<PartToSign>) -> SignPartsRequest {
    SignPartsRequest {
        source_file_path: upload.source_file_path.clone(),
        multipart_upload_id: upload.multipart.as_ref().unwrap().multipart_upload_id.clone(),
        parts,
    }
}

fn to_complete(upload: &UploadResponse, parts: Vec<UploadedPart>) -> CompleteUploadRequest {
    CompleteUploadRequest {
        source_file_path: upload.source_file_path.clone(),
        multipart_upload_id: upload.multipart.as_ref().unwrap().multipart_upload_id.clone(),
        parts,
    }
}

fn to_abort(upload: &UploadResponse) -> AbortUploadRequest {
    AbortUploadRequest {
        source_file_path: upload.source_file_path.clone(),
        multipart_upload_id: upload.multipart.as_ref().unwrap().multipart_upload_id.clone(),
    }
}

/// Signs and uploads the parts, numbered from 1.
async fn uploaded(
    place: &Place,
    target: UploadTarget<'_>,
    upload: &UploadResponse,
    parts: &[Vec<u8>],
) -> Vec<UploadedPart> {
    let wanted = parts.iter().zip(1..).map(|(body, part_number)| PartToSign {
        part_number,
        size_bytes: body.len() as u64,
        sha256: sha256(body),
    });
    let signed = place.sign_parts(&caller(), target, &to_sign(upload, wanted.collect())).await.unwrap();
    let mut uploaded = Vec::new();
    for ((put, body), part_number) in signed.parts.iter().zip(parts).zip(1..) {
        assert_eq!(put.expires_in_seconds, 3600);
        let (answer, _) = place.backend.send(&put.method, &put.url, &put.headers, body.clone()).await;
        assert_eq!(answer.status.as_u16(), 200);
        let etag = answer.headers["etag"].to_str().unwrap().to_owned();
        uploaded.push(UploadedPart { part_number, etag, sha256: sha256(body) });
    }
    uploaded
}

#[tokio::test]
async fn a_small_file_is_uploaded_in_one_request_and_can_be_converted_then() {
    let place = Place::new().await;
    let asked = upload("../My talk.mp3", 5, sha256(b"hello"));
    let answer = place.create_upload(&caller(), &asked, None).await.unwrap();
    assert_eq!(answer.source_file_path, format!("sources/t/{}/My_talk.mp3", answer.upload_id));
    assert_eq!((answer.uploaded, answer.multipart.is_none()), (false, true));
    let early = place.create(&caller(), &request(&answer.source_file_path), None).await;
    assert_eq!(problem(early).0, 422);
    let put = answer.put.unwrap();
    assert_eq!((put.method.as_str(), put.expires_in_seconds), ("PUT", 3600));
    let (sent, _) = place.backend.send("PUT", &put.url, &put.headers, "hello").await;
    assert_eq!(sent.status.as_u16(), 200);
    let created = place.create(&caller(), &request(&answer.source_file_path), None).await.unwrap();
    assert_eq!(place.job(&created.job_id).await.spec.source.sha256, Some(sha256(b"hello")));
}

#[tokio::test]
async fn above_64_mib_a_file_is_uploaded_in_parts_that_hold_it() {
    let place = Place::new().await;
    assert!(begun(&place, 64 * MIB).await.put.is_some());
    assert!(begun(&place, 0).await.put.is_some());
    for (size, part_size, count) in [
        (64 * MIB + 1, 64 * MIB, 2),
        (320_000 * MIB, 64 * MIB, 5_000),
        (320_000 * MIB + 1, 64 * MIB + 1, 5_000),
        (5 << 40, (5_u64 << 40).div_ceil(5_000), 5_000),
    ] {
        let parts = begun(&place, size).await.multipart.unwrap();
        assert_eq!((parts.part_size_bytes, u64::from(parts.part_count)), (part_size, count), "{size}");
        assert!(part_size * count >= size && part_size * (count - 1) < size);
    }
    let refused = place.create_upload(&caller(), &upload("a", (5 << 40) + 1, [1; 32]), None).await;
    assert_eq!(
        problem(refused),
        field("size_bytes", "is more than 5 TiB, the most that one object can hold")
    );
}

#[tokio::test]
async fn under_the_same_idempotency_key_it_is_the_same_place_until_the_file_is_there() {
    let place = Place::new().await;
    let asked = upload("a.txt", 5, sha256(b"hello"));
    let first = place.create_upload(&caller(), &asked, Some("k")).await.unwrap();
    let second = place.create_upload(&caller(), &asked, Some("k")).await.unwrap();
    assert_eq!(first.source_file_path, second.source_file_path);
    for other in [
        place.create_upload(&caller(), &asked, Some("l")).await.unwrap(),
        place.create_upload(&caller_of("u", "k"), &asked, Some("k")).await.unwrap(),
        place.create_upload(&caller(), &asked, None).await.unwrap(),
    ] {
        assert_ne!(other.upload_id, first.upload_id);
    }
    let put = first.put.unwrap();
    place.backend.send("PUT", &put.url, &put.headers, "hello").await;
    let third = place.create_upload(&caller(), &asked, Some("k")).await.unwrap();
    assert_eq!((third.uploaded, third.put.is_none(), third.multipart.is_none()), (true, true, true));
    assert_eq!(third.source_file_path, first.source_file_path);
    for other in [upload("a.txt", 5, sha256(b"hullo")), upload("a.txt", 6, sha256(b"hello"))] {
        assert_eq!(
            problem(place.create_upload(&caller(), &other, Some("k")).await),
            field("sha256", "is not that of the file already uploaded under this Idempotency-Key")
        );
    }
    assert_eq!(problem(place.create_upload(&caller(), &asked, Some("ä")).await).0, 422);
}

#[tokio::test]
async fn parts_are_signed_as_often_as_asked_for_and_put_together_once() {
    let place = Place::new().await;
    let bodies = [vec![7; 64 << 20], vec![8; 100]];
    let declared = upload("talk.mp4", 64 * MIB + 100, sha256(&bodies.concat()));
    let answer = place.create_upload(&caller(), &declared, None).await.unwrap();
    let target = UploadTarget::Source(&answer.upload_id);
    uploaded(&place, target, &answer, &bodies[..1]).await;
    let parts = uploaded(&place, target, &answer, &bodies).await;
    for _ in 0..2 {
        let done =
            place.complete_upload(&caller(), target, &to_complete(&answer, parts.clone())).await.unwrap();
        assert_eq!(
            (done.source_file_path.as_str(), done.size_bytes),
            (answer.source_file_path.as_str(), 64 * MIB + 100)
        );
    }
    let created = place.create(&caller(), &request(&answer.source_file_path), None).await.unwrap();
    assert_eq!(place.job(&created.job_id).await.spec.source.sha256, Some(declared.sha256));
}

#[tokio::test]
async fn what_is_not_as_large_as_was_announced_is_neither_a_source_nor_a_result() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let (begun, of_result) =
        (begun(&place, 65 * MIB).await, result_upload(&place, &held, 65 * MIB).await.unwrap());
    let targets = [
        (UploadTarget::Source(&begun.upload_id), &begun),
        (UploadTarget::Result { job_id: &held.id, lease_token: held.token() }, &of_result),
    ];
    for (target, answer) in targets {
        let parts = uploaded(&place, target, answer, &[vec![1; 10]]).await;
        let done = place.complete_upload(&caller(), target, &to_complete(answer, parts)).await.unwrap();
        assert_eq!(done.size_bytes, 10);
    }
    let text = "names an upload of 10 bytes that was announced as 68157440; upload it again, under another Idempotency-Key if it had one";
    let created = place.create(&caller(), &request(&begun.source_file_path), None).await;
    assert_eq!(problem(created), field("source_file_path", text));
    let result = ResultRequest {
        success: true,
        result_key: Some(of_result.source_file_path.clone()),
        ..ResultRequest::default()
    };
    assert_eq!(problem(place.submit(&held, &result).await), field("result_key", text));
    assert_eq!(place.status_of(&held.id).await, "processing");
}

#[tokio::test]
async fn parts_have_bounds() {
    let place = Place::new().await;
    let answer = begun(&place, 65 * MIB).await;
    let target = UploadTarget::Source(&answer.upload_id);
    let sign = async |parts: Vec<PartToSign>| {
        place.sign_parts(&caller(), target, &to_sign(&answer, parts)).await.map(|signed| signed.parts.len())
    };
    let count = field("parts", "must name 1 to 100 parts");
    assert_eq!(problem(sign(vec![]).await), count);
    assert_eq!(problem(sign(vec![part(1, 1); 101]).await), count);
    assert_eq!(sign(vec![part(1, 1); 100]).await.unwrap(), 100);
    let size = field("parts[1].size_bytes", "must be 1 byte to 5 GiB");
    assert_eq!(problem(sign(vec![part(1, 1), part(2, 0)]).await), size);
    assert_eq!(problem(sign(vec![part(1, 1), part(2, (5 << 30) + 1)]).await), size);
    let number = field("parts[0].part_number", "must be 1 to 5000");
    for wrong in [0, 5_001, u64::MAX] {
        assert_eq!(problem(sign(vec![part(wrong, 1)]).await), number);
        let parts = vec![UploadedPart { part_number: wrong, etag: String::new(), sha256: [0; 32] }];
        let completed = place.complete_upload(&caller(), target, &to_complete(&answer, parts)).await;
        assert_eq!(problem(completed), number);
    }
    assert_eq!(sign(vec![part(5_000, 5 << 30)]).await.unwrap(), 1);
    let parts = vec![UploadedPart { part_number: 1, etag: String::new(), sha256: [0; 32] }; 5_001];
    for wrong in [vec![], parts] {
        let completed = place.complete_upload(&caller(), target, &to_complete(&answer, wrong)).await;
        let text = "must name every uploaded part, 1 to 5000 of them";
        assert_eq!(problem(completed), field("parts", text));
    }
}

#[tokio::test]
async fn parts_that_do_not_fit_together_are_refused_with_the_reason() {
    let place = Place::new().await;
    let answer = begun(&place, 65 * MIB).await;
    let target = UploadTarget::Source(&answer.upload_id);
    let parts = uploaded(&place, target, &answer, &[vec![1; 10], vec![2; 10]]).await;
    let completed = place.complete_upload(&caller(), target, &to_complete(&answer, parts)).await;
    assert_eq!(
        problem(completed),
        field("parts", "cannot be put together: a part that is not the last is smaller than 5 MiB")
    );
}

#[tokio::test]
async fn an_upload_that_is_given_up_is_gone() {
    let place = Place::new().await;
    let answer = begun(&place, 65 * MIB).await;
    let target = UploadTarget::Source(&answer.upload_id);
    let parts = uploaded(&place, target, &answer, &[vec![1; 10]]).await;
    for _ in 0..2 {
        assert!(place.abort_upload(&caller(), target, &to_abort(&answer)).await.unwrap().aborted);
    }
    let completed = place.complete_upload(&caller(), target, &to_complete(&answer, parts)).await;
    let text = "cannot be put together: there is no such upload; it was completed, aborted or has expired";
    assert_eq!(problem(completed), field("parts", text));
}

#[tokio::test]
async fn a_path_that_the_upload_was_not_answered_with_is_refused() {
    let place = Place::new().await;
    let answer = begun(&place, 65 * MIB).await;
    let other = begun(&place, 65 * MIB).await;
    let held = place.claimed().await;
    let foreign = field("source_file_path", "is not what this upload was answered with");
    let of_job = UploadTarget::Result { job_id: &held.id, lease_token: held.token() };
    for (caller, target, path) in [
        (caller(), UploadTarget::Source(&other.upload_id), answer.source_file_path.as_str()),
        (caller_of("u", "k"), UploadTarget::Source(&answer.upload_id), answer.source_file_path.as_str()),
        (caller(), UploadTarget::Source(&answer.upload_id), "/etc/passwd"),
        (
            caller(),
            UploadTarget::Source(&answer.upload_id),
            "options/t/00000000-0000-0000-0000-000000000001.json",
        ),
        (caller(), of_job, answer.source_file_path.as_str()),
    ] {
        let mut wrong = answer.clone();
        wrong.source_file_path = path.to_owned();
        let signed = place.sign_parts(&caller, target, &to_sign(&wrong, vec![part(1, 1)])).await;
        assert_eq!(problem(signed), foreign, "{path}");
        let completed = place.complete_upload(&caller, target, &to_complete(&wrong, vec![])).await;
        assert_eq!(problem(completed), foreign, "{path}");
        assert_eq!(problem(place.abort_upload(&caller, target, &to_abort(&wrong)).await), foreign, "{path}");
    }
}

async fn result_upload(place: &Place, held: &Held, size_bytes: u64) -> Result<UploadResponse, Error> {
    let asked = CreateResultUploadRequest { size_bytes, sha256: [3; 32] };
    place.create_result_upload(&caller(), &held.id, held.token(), &asked).await
}

#[tokio::test]
async fn a_result_is_uploaded_for_the_attempt_that_runs() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let answer = result_upload(&place, &held, 9).await.unwrap();
    let expected = format!("results/t/{}/1-{}.json", held.id, "03".repeat(32));
    assert_eq!((&answer.upload_id, &answer.source_file_path), (&held.id, &expected));
    place.pass(20);
    let second = place.claim().await;
    let answer = result_upload(&place, &second, 9).await.unwrap();
    assert!(answer.source_file_path.contains("/2-"), "{}", answer.source_file_path);
}

#[tokio::test]
async fn a_large_result_is_uploaded_in_parts_while_the_lease_holds() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let answer = result_upload(&place, &held, 65 * MIB).await.unwrap();
    let target = UploadTarget::Result { job_id: &held.id, lease_token: held.token() };
    let parts = uploaded(&place, target, &answer, &[vec![1; 10]]).await;
    let done = place.complete_upload(&caller(), target, &to_complete(&answer, parts.clone())).await.unwrap();
    assert_eq!(done.size_bytes, 10);

    place.pass(20);
    let second = place.claim().await;
    let refused = stale(&held.id, "processing");
    let (sign, complete, abort) =
        (to_sign(&answer, vec![part(1, 1)]), to_complete(&answer, parts), to_abort(&answer));
    assert_eq!(full_problem(place.sign_parts(&caller(), target, &sign).await), refused);
    assert_eq!(full_problem(place.complete_upload(&caller(), target, &complete).await), refused);
    assert_eq!(full_problem(place.abort_upload(&caller(), target, &abort).await), refused);
    assert_eq!(full_problem(result_upload(&place, &held, 9).await), refused);
    // Nor does the next attempt go on with it.
    let target = UploadTarget::Result { job_id: &second.id, lease_token: second.token() };
    let foreign = field("source_file_path", "is not what this upload was answered with");
    assert_eq!(problem(place.sign_parts(&caller(), target, &sign).await), foreign);
}

#[tokio::test]
async fn only_the_holder_uploads_a_result() {
    let place = Place::new().await;
    let waiting = Held { id: place.created().await, token: None };
    assert_eq!(full_problem(result_upload(&place, &waiting, 9).await), stale(&waiting.id, "pending"));
    let held = place.claim().await;
    let asked = CreateResultUploadRequest { size_bytes: 9, sha256: [3; 32] };
    let foreign = place.create_result_upload(&caller_of("u", "k"), &held.id, held.token(), &asked).await;
    assert_eq!(problem(foreign), not_found(&held.id));
}
