use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, CompletedMultipartUpload, CompletedPart};
use s3s::crypto::{Checksum as _, Md5};

use crate::support::{BUCKET, MIB, Place, bytes, incoming, refusal, refused, sha256};

struct Upload<'a> {
    place: &'a Place,
    id: String,
}

impl<'a> Upload<'a> {
    async fn begin(place: &'a Place) -> Self {
        let upload = place.s3.create_multipart_upload().bucket(BUCKET).key("k");
        let upload = upload.content_type("video/mp4").metadata("origin", "camera").send().await.unwrap();
        Self { place, id: upload.upload_id().unwrap().to_owned() }
    }

    fn put(
        &self,
        number: i32,
        data: &[u8],
    ) -> aws_sdk_s3::operation::upload_part::builders::UploadPartFluentBuilder {
        let part = self.place.s3.upload_part().bucket(BUCKET).key("k").upload_id(&self.id);
        part.part_number(number).body(ByteStream::from(data.to_vec()))
    }

    async fn part(&self, number: i32, data: &[u8]) -> CompletedPart {
        let put = self.put(number, data).send().await.unwrap();
        CompletedPart::builder().part_number(number).e_tag(put.e_tag().unwrap()).build()
    }

    fn complete(
        &self,
        parts: &[CompletedPart],
    ) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder
    {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec())).build();
        let complete = self.place.s3.complete_multipart_upload().bucket(BUCKET).key("k");
        complete.upload_id(&self.id).multipart_upload(parts)
    }
}

#[tokio::test]
async fn parts_become_one_object() {
    let place = Place::new().await;
    let data = [bytes(5 * MIB, 1), bytes(6 * MIB, 2), bytes(100, 3)];
    let upload = Upload::begin(&place).await;
    // In any order, one of them twice, and one that is not used in the end.
    let third = upload.part(30, &data[2]).await;
    upload.part(1, &bytes(5 * MIB, 9)).await;
    let first = upload.part(1, &data[0]).await;
    let second = upload.part(7, &data[1]).await;
    upload.part(9, &bytes(10, 9)).await;

    let listed = place.s3.list_parts().bucket(BUCKET).key("k").upload_id(&upload.id).max_parts(3).send();
    let listed = listed.await.unwrap();
    let numbers: Vec<_> = listed.parts().iter().map(|part| part.part_number().unwrap()).collect();
    assert_eq!((numbers, listed.is_truncated()), (vec![1, 7, 9], Some(true)));
    assert_eq!(listed.parts()[0].e_tag(), first.e_tag());

    let parts = [first, second, third];
    let done = upload.complete(&parts).send().await.unwrap();
    let digests = data.iter().flat_map(|data| Md5::checksum(data)).collect::<Vec<_>>();
    let etag = format!("\"{}-3\"", hex::encode(Md5::checksum(&digests)));
    assert_eq!(done.e_tag(), Some(&*etag));

    let whole = data.concat();
    let again = upload.complete(&parts).send().await.unwrap();
    assert_eq!(again.e_tag(), Some(&*etag), "an answer that was lost can be asked for again");
    let id = upload.id;
    let place = place.reopen();
    assert_eq!(place.blobs().len(), 3);
    let head = place.s3.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send();
    let head = head.await.unwrap();
    assert_eq!((head.content_type(), head.checksum_sha256()), (Some("video/mp4"), None));
    assert_eq!(head.metadata().unwrap()["origin"], "camera");
    assert!(place.get("k").await == whole);
    for (from, to) in
        [(0, 10), (5 * MIB - 3, 5 * MIB + 3), (11 * MIB - 1, 11 * MIB + 100), (5 * MIB, 11 * MIB)]
    {
        let range = format!("bytes={from}-{}", to - 1);
        let got = place.s3.get_object().bucket(BUCKET).key("k").range(&range).send().await.unwrap();
        assert!(got.body.collect().await.unwrap().to_vec() == whole[from..to], "{range}");
    }
    let gone = place.s3.list_parts().bucket(BUCKET).key("k").upload_id(&id).send().await;
    assert_eq!(refusal(gone), refused(404, "NoSuchUpload"));

    place.put("k", "replaced").await;
    let dir = place.close();
    assert!(crate::support::blobs(dir.path()).is_empty());
}

#[tokio::test]
async fn a_multipart_object_that_is_being_read_can_be_deleted() {
    let place = Place::new().await;
    let upload = Upload::begin(&place).await;
    let data = [bytes(5 * MIB, 1), bytes(5 * MIB, 2)];
    let parts = [upload.part(1, &data[0]).await, upload.part(2, &data[1]).await];
    upload.complete(&parts).send().await.unwrap();
    // The second file is opened only after the object is deleted.
    let mut reading = place.s3.get_object().bucket(BUCKET).key("k").send().await.unwrap().body;
    let mut read = reading.next().await.unwrap().unwrap().to_vec();
    place.s3.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    while let Some(chunk) = reading.next().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    assert!(read == data.concat());
    drop(reading);
    let dir = place.close();
    assert!(crate::support::blobs(dir.path()).is_empty());
}

#[tokio::test]
async fn the_part_list_must_be_right() {
    let place = Place::new().await;
    let upload = Upload::begin(&place).await;
    let small = upload.part(1, &bytes(100, 1)).await;
    let last = upload.part(2, &bytes(100, 2)).await;
    let refuse = async |parts: &[CompletedPart]| refusal(upload.complete(parts).send().await);
    assert_eq!(refuse(&[small.clone(), last.clone()]).await, refused(400, "EntityTooSmall"));
    assert_eq!(refuse(&[last.clone(), small.clone()]).await, refused(400, "InvalidPartOrder"));
    assert_eq!(refuse(&[small.clone(), small.clone()]).await, refused(400, "InvalidPartOrder"));
    let unknown = CompletedPart::builder().part_number(3).e_tag(small.e_tag().unwrap()).build();
    assert_eq!(refuse(&[unknown]).await, refused(400, "InvalidPart"));
    let changed = CompletedPart::builder().part_number(1).e_tag(last.e_tag().unwrap()).build();
    assert_eq!(refuse(&[changed]).await, refused(400, "InvalidPart"));
    let size = upload.complete(std::slice::from_ref(&small)).mpu_object_size(7).send().await;
    assert_eq!(refusal(size), refused(400, "InvalidRequest"));
    upload.complete(&[small]).mpu_object_size(100).send().await.unwrap();
    assert_eq!(place.get("k").await, bytes(100, 1));
}

#[tokio::test]
async fn parts_are_verified_like_puts() {
    let place = Place::new().await;
    let upload = Upload::begin(&place).await;
    let (data, other) = (bytes(100_000, 1), bytes(100_000, 2));
    let good = upload.put(1, &data).checksum_sha256(sha256(&data)).send().await.unwrap();
    let bad = upload.put(1, &data).checksum_sha256(sha256(&other)).send().await;
    assert_eq!(refusal(bad), refused(400, "BadDigest"));
    let bad = upload.put(0, &data).send().await;
    assert_eq!(refusal(bad), refused(400, "InvalidArgument"));
    assert_eq!((place.blobs().len(), incoming(place.dir.path()).len()), (1, 0));

    let part = CompletedPart::builder().part_number(1).e_tag(good.e_tag().unwrap());
    let wrong = part.clone().checksum_sha256(sha256(&other)).build();
    assert_eq!(refusal(upload.complete(&[wrong]).send().await), refused(400, "InvalidPart"));
    upload.complete(&[part.checksum_sha256(sha256(&data)).build()]).send().await.unwrap();
    assert!(place.get("k").await == data);
}

#[tokio::test]
async fn completing_can_want_the_key_free() {
    let place = Place::new().await;
    let upload = Upload::begin(&place).await;
    let part = upload.part(1, &bytes(100, 1)).await;
    place.put("k", "first").await;
    let complete = upload.complete(std::slice::from_ref(&part)).if_none_match("*").send().await;
    assert_eq!(refusal(complete), refused(412, "PreconditionFailed"));
    assert_eq!(place.get("k").await, b"first");
    place.s3.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    upload.complete(std::slice::from_ref(&part)).if_none_match("*").send().await.unwrap();
    upload.complete(&[part]).if_none_match("*").send().await.unwrap();
    assert_eq!(place.get("k").await, bytes(100, 1));
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let place = Place::new().await;
    let upload = Upload::begin(&place).await;
    upload.part(1, &bytes(5 * MIB, 1)).await;
    let abort = || place.s3.abort_multipart_upload().bucket(BUCKET).key("k").upload_id(&upload.id).send();
    abort().await.unwrap();
    assert_eq!(refusal(abort().await), refused(404, "NoSuchUpload"));
    let late = upload.put(2, b"late").send().await;
    assert_eq!(refusal(late), refused(404, "NoSuchUpload"));
    let get = place.s3.get_object().bucket(BUCKET).key("k").send().await;
    assert_eq!(refusal(get), refused(404, "NoSuchKey"));
    let dir = place.close();
    assert!(crate::support::blobs(dir.path()).is_empty());
}

#[tokio::test]
async fn an_uploads_id_counts_only_with_its_key() {
    let place = Place::new().await;
    let upload = Upload::begin(&place).await;
    let part = place.s3.upload_part().bucket(BUCKET).key("other").upload_id(&upload.id).part_number(1);
    let part = part.body(ByteStream::from_static(b"x")).send().await;
    assert_eq!(refusal(part), refused(404, "NoSuchUpload"));
}
