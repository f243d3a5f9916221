"""What each operation needs of a key, by its name. A test holds the table against the routes there are."""

from service.specs.scopes import Scope

SCOPES: dict[str, Scope] = {
    # jobs
    "create_job": Scope.SUBMIT,
    "list_jobs": Scope.READ,
    "get_job": Scope.READ,
    "change_job": Scope.SUBMIT,
    "delete_job": Scope.SUBMIT,
    "cancel_job": Scope.SUBMIT,
    "pause_job": Scope.SUBMIT,
    "resume_job": Scope.SUBMIT,
    "retry_job": Scope.SUBMIT,
    "list_events": Scope.READ,
    "stream_events": Scope.READ,
    "stream_log": Scope.READ,
    "get_log": Scope.READ,
    # what they made
    "get_metrics": Scope.READ,
    "get_series": Scope.READ,
    "list_checkpoints": Scope.READ,
    "list_artifacts": Scope.READ,
    "get_artifact": Scope.READ,
    # what there is
    "list_measures": Scope.READ,
    "list_models": Scope.READ,
    "list_datasets": Scope.READ,
    "get_dataset": Scope.READ,
    "inspect_dataset": Scope.SUBMIT,
    "validate_dataset": Scope.READ,
    "list_dataset_versions": Scope.READ,
    "get_dataset_content": Scope.READ,
    "put_dataset": Scope.SUBMIT,
    "delete_dataset": Scope.SUBMIT,
    "create_sending": Scope.SUBMIT,
    "get_sending": Scope.READ,
    "continue_sending": Scope.SUBMIT,
    "delete_sending": Scope.SUBMIT,
    # OpenAI's door
    "create_file": Scope.SUBMIT,
    "list_files": Scope.READ,
    "get_file": Scope.READ,
    "delete_file": Scope.SUBMIT,
    "get_file_content": Scope.READ,
    "create_upload": Scope.SUBMIT,
    "add_upload_part": Scope.SUBMIT,
    "complete_upload": Scope.SUBMIT,
    "cancel_upload": Scope.SUBMIT,
    "create_fine_tuning_job": Scope.SUBMIT,
    "list_fine_tuning_jobs": Scope.READ,
    "get_fine_tuning_job": Scope.READ,
    "cancel_fine_tuning_job": Scope.SUBMIT,
    "pause_fine_tuning_job": Scope.SUBMIT,
    "resume_fine_tuning_job": Scope.SUBMIT,
    "list_fine_tuning_events": Scope.READ,
    "list_fine_tuning_checkpoints": Scope.READ,
    "list_openai_models": Scope.READ,
    "get_openai_model": Scope.READ,
    "delete_openai_model": Scope.SUBMIT,
    # the operator's
    "list_workers": Scope.READ,
    "get_worker": Scope.READ,
    "drain_worker": Scope.ADMIN,
    "undrain_worker": Scope.ADMIN,
    "create_key": Scope.ADMIN,
    "list_keys": Scope.ADMIN,
    "revoke_key": Scope.ADMIN,
    "list_owners": Scope.ADMIN,
    "get_owner": Scope.READ,
    "change_owner": Scope.ADMIN,
    "list_audit": Scope.ADMIN,
}


def scope_of(operation: str) -> Scope:
    """One that is not in the table is the operator's alone."""
    return SCOPES.get(operation, Scope.ADMIN)
