//! Wires the function to the Lambda runtime.

use std::{process::ExitCode, sync::Arc};

use deliver_events::{HttpCourier, LONGEST_ROUND, TIMEOUT, Wanted};
use runtime::{JobSettings, LambdaError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    runtime::run(deliver()).await
}

async fn deliver() -> Result<(), LambdaError> {
    let courier = Arc::new(HttpCourier::new(JobSettings::from_env()?.webhook_networks));
    runtime::run_events(TIMEOUT, move |app, event, deadline| {
        let courier = Arc::clone(&courier);
        async move {
            let until = deadline.before(TIMEOUT.saturating_sub(LONGEST_ROUND));
            deliver_events::handle(app, &*courier, Wanted::of(&event), until).await
        }
    })
    .await
}
