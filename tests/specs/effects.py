"""For each argument that works, the test that observes its effect: it would fail if the argument were accepted and ignored."""

_ADAPTERS = "tests/worker/models/test_adapters.py"
_ATTENTION = "tests/worker/models/test_attention.py"
_ARGUMENTS = "tests/worker/stages/test_arguments.py"
_CHILD = "tests/worker/test_child.py"
_CACHE = "tests/worker/data/test_cache.py"
_QUANTIZING = "tests/worker/stages/test_quantizing.py"
_PUSHING = "tests/worker/stages/test_pushing.py"
_EXPORTING = "tests/worker/stages/test_exporting.py"
_GENERATION = "tests/worker/probes/test_generation.py"
_HUB = "tests/worker/models/test_hub.py"
_EVALUATING = "tests/worker/stages/test_evaluating.py"
_JOBS = "tests/service/store/test_jobs.py"
_LAUNCHING = "tests/worker/test_launching.py"
_LOAD = "tests/worker/data/test_load.py"
_GUARDING = "tests/worker/stages/test_guarding.py"
_MEASURING = "tests/worker/stages/test_measuring.py"
_LATER = "tests/worker/stages/test_measuring_later.py"
_MODEL_ARGUMENTS = "tests/worker/stages/test_model_arguments.py"
_PACKED = "tests/worker/stages/test_packed.py"
_PPO = "tests/worker/stages/test_ppo.py"
_ROLLOUT = "tests/worker/ppo/test_rollout.py"
_PIPELINE = "tests/worker/test_pipeline.py"
_PREDICTING = "tests/worker/stages/test_predicting.py"
_PROBING = "tests/worker/stages/test_probing.py"
_PLOTS = "tests/worker/stages/test_plots.py"
_PICTURES = "tests/worker/stages/test_pictures.py"
_STREAMING = "tests/worker/data/test_streaming.py"
_SCORERS = "tests/worker/rewards/test_scorers.py"
_REWARDED = "tests/worker/stages/test_rewarded.py"
_PREFERENCE = "tests/worker/stages/test_preference.py"
_PRECISION = "tests/worker/models/test_precision.py"
_QUANTIZATION = "tests/worker/models/test_quantization.py"
_ENDINGS = "tests/service/store/test_endings.py"
_LIMITS = "tests/service/store/test_limits.py"
_RETENTION = "tests/service/store/test_retention.py"
_SUPERVISE = "tests/worker/test_supervise.py"
_SUPERVISED = "tests/worker/stages/test_supervised.py"
_TRACKERS = "tests/worker/test_trackers.py"
_TOKENIZE = "tests/worker/data/test_tokenize.py"

_FROM_THE_FIRST_UPDATE = f"{_SUPERVISED}::test_a_training_argument_acts_from_its_first_update_on"

_MODELSCOPE = "tests/worker/models/test_modelscope.py"
_UNSLOTH = "tests/worker/models/test_unsloth.py"

EFFECTS: dict[str, str] = {
    "model.model_name_or_path": f"{_SUPERVISED}::test_the_models_own_name_says_what_is_trained",
    "model.adapter_name_or_path": f"{_MODEL_ARGUMENTS}::test_training_goes_on_with_the_last_adapter_given",
    "model.resize_vocab": f"{_MODEL_ARGUMENTS}::test_the_vocabulary_grows_to_the_tokenizer_when_asked_and_is_refused_otherwise",
    "model.quantization_bit": f"{_MODEL_ARGUMENTS}::test_only_the_adapter_of_a_quantized_model_trains_and_is_measured",
    "model.quantization_type": f"{_QUANTIZATION}::test_the_type_and_the_second_quantization_are_those_asked_for",
    "model.double_quantization": f"{_QUANTIZATION}::test_the_type_and_the_second_quantization_are_those_asked_for",
    "model.rope_scaling": f"{_MODEL_ARGUMENTS}::test_rope_scaling_stretches_the_positions_to_the_cutoff",
    "model.flash_attn": f"{_ATTENTION}::test_flash_attention_is_used_where_it_is_there",
    "model.shift_attn": f"{_MODEL_ARGUMENTS}::test_shift_attn_trains_in_groups_and_measures_fully",
    "model.upcast_layernorm": f"{_PRECISION}::test_upcast_layernorm_holds_the_norms_in_fp32_and_nothing_else",
    "model.upcast_lmhead_output": f"{_PRECISION}::test_upcast_lmhead_output_answers_logits_in_fp32",
    "model.cache_dir": f"{_HUB}::test_a_job_trains_a_model_of_the_hub_with_its_cache_dir_and_hf_hub_token",
    "model.model_revision": f"{_HUB}::test_a_job_trains_a_model_of_the_hub_with_its_cache_dir_and_hf_hub_token",
    "model.hf_hub_token": f"{_HUB}::test_a_job_trains_a_model_of_the_hub_with_its_cache_dir_and_hf_hub_token",
    "model.ms_hub_token": f"{_MODELSCOPE}::test_a_job_trains_a_model_of_modelscope_with_its_ms_hub_token",
    "model.use_unsloth": f"{_UNSLOTH}::test_use_unsloth_loads_the_model_and_makes_the_adapter_with_unsloth",
    "model.split_special_tokens": f"{_TOKENIZE}::test_split_special_tokens_splits_what_a_user_wrote_and_not_the_template",
    "model.disable_gradient_checkpointing": (
        f"{_SUPERVISED}::test_losses_are_the_same_without_gradient_checkpointing_and_the_layers_run_once"
    ),
    "model.export_dir": f"{_EXPORTING}::test_a_pipeline_ends_in_a_folder_that_others_load",
    "model.export_size": f"{_EXPORTING}::test_export_size_bounds_the_shards",
    "model.export_quantization_bit": f"{_QUANTIZING}::test_a_quantized_export_is_made_as_it_was_asked_for",
    "model.export_quantization_dataset": f"{_QUANTIZING}::test_a_quantized_export_is_made_as_it_was_asked_for",
    "model.export_quantization_nsamples": f"{_QUANTIZING}::test_a_quantized_export_is_made_as_it_was_asked_for",
    "model.export_quantization_maxlen": f"{_QUANTIZING}::test_a_quantized_export_is_made_as_it_was_asked_for",
    "model.export_hub_model_id": f"{_PUSHING}::test_an_export_is_pushed_after_its_certificate",
    "export.quantized_mean_kl": f"{_QUANTIZING}::test_quantized_mean_kl_fails_an_export_that_lost_more",
    "export.hub_private": f"{_PUSHING}::test_hub_private_is_what_the_repository_is",
    "model.export_legacy_format": f"{_EXPORTING}::test_export_legacy_format_writes_torchs_own_files_that_hold_tensors_only",
    "data.split": f"{_LOAD}::test_the_split_that_is_asked_for_is_read",
    "data.streaming": f"{_STREAMING}::test_no_more_rows_are_read_than_are_trained_and_wait_in_the_buffer",
    "data.buffer_size": f"{_STREAMING}::test_rows_come_in_an_order_that_the_buffer_and_the_seed_decide",
    "data.mix_strategy": f"{_LOAD}::test_mixed_rows_are_trained_and_none_that_is_held_out_comes_back",
    "data.interleave_probs": f"{_LOAD}::test_probabilities_reach_the_mixing",
    "data.overwrite_cache": f"{_CACHE}::test_overwrite_cache_makes_it_anew",
    "data.cache_path": f"{_CACHE}::test_the_second_run_does_not_tokenise_and_has_the_same",
    "data.template": f"{_SUPERVISED}::test_the_template_and_the_data_sets_decide_what_is_trained",
    "data.dataset": f"{_SUPERVISED}::test_the_template_and_the_data_sets_decide_what_is_trained",
    "data.dataset_dir": f"{_LOAD}::test_a_folder_that_is_not_there_or_not_inside_is_refused",
    "data.cutoff_len": f"{_SUPERVISED}::test_rows_over_cutoff_len_are_cut_or_dropped_and_counted",
    "data.reserved_label_len": f"{_SUPERVISED}::test_a_short_response_to_a_long_prompt_keeps_what_is_reserved_for_it",
    "data.train_on_prompt": f"{_SUPERVISED}::test_prompts_are_trained_when_asked",
    "data.preprocessing_num_workers": f"{_SUPERVISED}::test_rows_are_encoded_by_as_many_processes_as_were_asked_for",
    "data.max_samples": f"{_LOAD}::test_data_sets_follow_one_another_with_the_first_rows_of_each",
    "data.ignore_pad_token_for_loss": f"{_SUPERVISED}::test_padding_weighs_in_the_loss_unless_it_is_ignored",
    "data.val_size": f"{_SUPERVISED}::test_held_out_rows_are_not_trained",
    "data.sft_packing": f"{_PACKED}::test_blocks_are_trained_and_a_step_has_many_examples_in_one",
    "data.overlength": f"{_SUPERVISED}::test_rows_over_cutoff_len_are_cut_or_dropped_and_counted",
    "finetuning.finetuning_type": f"{_ADAPTERS}::test_full_trains_everything",
    "finetuning.plot_loss": f"{_PLOTS}::test_the_picture_is_an_artifact_of_the_step",
    "finetuning.name_module_trainable": f"{_ADAPTERS}::test_freeze_takes_several_modules_and_parts_of_them",
    "finetuning.num_layer_trainable": f"{_ADAPTERS}::test_freeze_trains_exactly_the_mlps_of_the_last_or_first_layers",
    "finetuning.additional_target": f"{_SUPERVISED}::test_additional_targets_are_trained_whole_and_saved_in_the_adapter",
    "finetuning.lora_alpha": f"{_ADAPTERS}::test_lora_has_the_numbers_that_were_asked_for",
    "finetuning.lora_dropout": f"{_ADAPTERS}::test_lora_has_the_numbers_that_were_asked_for",
    "finetuning.lora_rank": f"{_ADAPTERS}::test_lora_trains_rank_times_in_plus_out",
    "finetuning.lora_target": f"{_ADAPTERS}::test_lora_trains_rank_times_in_plus_out",
    "finetuning.lora_bf16_mode": f"{_MODEL_ARGUMENTS}::test_an_adapter_in_bf16_trains_in_bf16",
    "finetuning.create_new_adapter": f"{_MODEL_ARGUMENTS}::test_a_new_adapter_begins_where_the_merged_ones_ended",
    "finetuning.reward_model": f"{_SCORERS}::test_a_whole_reward_model_scores_as_it_was_trained",
    "finetuning.reward_model_adapters": f"{_REWARDED}::test_each_type_of_reward_model_scores_what_ppo_writes",
    "finetuning.reward_model_quantization_bit": f"{_SCORERS}::test_a_whole_reward_model_may_be_quantized",
    "finetuning.reward_api_key": f"{_REWARDED}::test_an_api_is_asked_with_the_step_s_own_key_which_is_in_no_file",
    "finetuning.reward_model_type": f"{_REWARDED}::test_each_type_of_reward_model_scores_what_ppo_writes",
    "finetuning.dpo_beta": f"{_PREFERENCE}::test_before_anything_is_learned_a_loss_has_its_closed_form",
    "finetuning.dpo_loss": f"{_PREFERENCE}::test_before_anything_is_learned_a_loss_has_its_closed_form",
    "finetuning.dpo_ftx": (f"{_PREFERENCE}::test_dpo_ftx_adds_the_mean_over_the_pairs_of_the_chosen_answers_nll_per_token"),
    "finetuning.ref_model": f"{_PREFERENCE}::test_a_reference_that_is_named_is_the_one_that_answers_are_held_against",
    "finetuning.ref_model_adapters": f"{_PREFERENCE}::test_the_adapters_of_a_reference_lie_on_it",
    "finetuning.ref_model_quantization_bit": f"{_PREFERENCE}::test_a_reference_may_be_quantized",
    "finetuning.stage": f"{_PPO}::test_a_step_of_the_stage_ppo_learns_from_its_own_responses",
    "finetuning.ppo_buffer_size": f"{_PPO}::test_a_buffer_is_written_in_batches_and_passed_over_ppo_epochs_times",
    "finetuning.ppo_epochs": f"{_PPO}::test_a_buffer_is_written_in_batches_and_passed_over_ppo_epochs_times",
    "finetuning.ppo_logger": f"{_TRACKERS}::test_ppo_logger_writes_the_series_of_ppo",
    "finetuning.ppo_score_norm": (
        f"{_PPO}::test_ppo_score_norm_takes_the_mean_of_all_scores_so_far_off_and_divides_by_their_deviation"
    ),
    "finetuning.ppo_target": f"{_PPO}::test_ppo_target_says_which_way_the_coefficient_goes",
    "finetuning.ppo_whiten_rewards": (
        f"{_PPO}::test_ppo_whiten_rewards_gives_the_rewards_a_deviation_of_1_and_leaves_their_mean"
    ),
    "generating.do_sample": f"{_ROLLOUT}::test_do_sample_draws_and_the_seed_repeats_what_was_drawn",
    "generating.temperature": f"{_ROLLOUT}::test_a_narrow_temperature_top_k_or_top_p_leaves_the_likeliest_token_alone",
    "generating.top_p": f"{_ROLLOUT}::test_a_narrow_temperature_top_k_or_top_p_leaves_the_likeliest_token_alone",
    "generating.top_k": f"{_ROLLOUT}::test_a_narrow_temperature_top_k_or_top_p_leaves_the_likeliest_token_alone",
    "data.eval_num_beams": f"{_PREDICTING}::test_eval_num_beams_wins_over_num_beams",
    "generating.num_beams": f"{_PREDICTING}::test_eval_num_beams_wins_over_num_beams",
    "generating.length_penalty": f"{_PREDICTING}::test_length_penalty_reaches_the_beams",
    "generating.max_length": f"{_ROLLOUT}::test_max_new_tokens_wins_over_max_length_which_counts_the_prompt",
    "generating.max_new_tokens": f"{_ROLLOUT}::test_max_new_tokens_wins_over_max_length_which_counts_the_prompt",
    "generating.repetition_penalty": f"{_ROLLOUT}::test_repetition_penalty_keeps_tokens_from_coming_again",
    "evaluation.task": f"{_EVALUATING}::test_the_task_and_its_folder_say_what_is_asked",
    "evaluation.task_dir": f"{_EVALUATING}::test_the_task_and_its_folder_say_what_is_asked",
    "evaluation.batch_size": f"{_EVALUATING}::test_no_more_questions_go_through_the_model_at_once_than_batch_size",
    "evaluation.seed": f"{_EVALUATING}::test_the_seed_draws_the_examples_and_repeats_them",
    "evaluation.lang": f"{_EVALUATING}::test_lang_and_n_shot_say_how_a_question_reads",
    "evaluation.n_shot": f"{_EVALUATING}::test_lang_and_n_shot_say_how_a_question_reads",
    "evaluation.save_dir": f"{_EVALUATING}::test_save_dir_names_the_folder_of_the_results",
    "evaluation.split": f"{_EVALUATING}::test_split_says_whose_questions_are_asked",
    "training.per_device_train_batch_size": f"{_SUPERVISED}::test_accumulated_batches_are_one_batch",
    "training.per_device_eval_batch_size": f"{_MEASURING}::test_a_measuring_pass_takes_no_more_documents_at_once_than_it_may",
    "training.gradient_accumulation_steps": f"{_SUPERVISED}::test_accumulated_batches_are_one_batch",
    "training.learning_rate": f"{_SUPERVISED}::test_a_plain_gradient_step_is_as_long_as_rate_times_norm",
    "training.lr_scheduler_type": f"{_SUPERVISED}::test_the_learning_rate_moves_as_it_was_asked_to",
    "training.warmup_steps": f"{_SUPERVISED}::test_the_learning_rate_moves_as_it_was_asked_to",
    "training.warmup_ratio": f"{_SUPERVISED}::test_the_learning_rate_moves_as_it_was_asked_to",
    "training.num_train_epochs": f"{_SUPERVISED}::test_updates_end_with_max_steps_or_with_the_epochs",
    "training.max_steps": f"{_SUPERVISED}::test_updates_end_with_max_steps_or_with_the_epochs",
    "training.optim": _FROM_THE_FIRST_UPDATE,
    "training.weight_decay": f"{_SUPERVISED}::test_weight_decay_pulls_at_all_but_the_norms",
    "training.adam_beta1": _FROM_THE_FIRST_UPDATE,
    "training.adam_beta2": _FROM_THE_FIRST_UPDATE,
    "training.adam_epsilon": _FROM_THE_FIRST_UPDATE,
    "training.max_grad_norm": f"{_SUPERVISED}::test_a_gradient_longer_than_max_grad_norm_is_shortened_and_told_as_it_was",
    "training.label_smoothing_factor": _FROM_THE_FIRST_UPDATE,
    "training.neftune_noise_alpha": _FROM_THE_FIRST_UPDATE,
    "training.group_by_length": f"{_SUPERVISED}::test_grouping_by_length_puts_like_lengths_in_a_batch",
    "training.dataloader_num_workers": f"{_ARGUMENTS}::test_an_argument_reaches_the_trainer_under_its_present_name",
    "training.logging_steps": f"{_SUPERVISED}::test_a_point_is_the_mean_of_its_window_and_the_last_window_may_be_short",
    "training.report_to": f"{_TRACKERS}::test_report_to_writes_the_series_where_tensorboard_and_wandb_read_them",
    "training.run_name": f"{_TRACKERS}::test_report_to_writes_the_series_where_tensorboard_and_wandb_read_them",
    "training.project": f"{_TRACKERS}::test_report_to_writes_the_series_where_tensorboard_and_wandb_read_them",
    "training.run_tags": f"{_TRACKERS}::test_report_to_writes_the_series_where_tensorboard_and_wandb_read_them",
    "training.wandb_entity": f"{_TRACKERS}::test_report_to_writes_the_series_where_tensorboard_and_wandb_read_them",
    "training.save_strategy": f"{_SUPERVISED}::test_checkpoints_are_made_when_asked_and_once_at_the_last_update",
    "training.save_steps": f"{_SUPERVISED}::test_checkpoints_are_made_when_asked_and_once_at_the_last_update",
    "training.save_total_limit": f"{_SUPERVISE}::test_checkpoints_beyond_those_that_are_kept_go_as_others_come",
    "training.keep_best": f"{_SUPERVISE}::test_checkpoints_beyond_those_that_are_kept_go_as_others_come",
    "training.seed": f"{_SUPERVISED}::test_the_seed_repeats_a_run_to_the_last_bit",
    "training.data_seed": f"{_SUPERVISED}::test_data_seed_gives_the_order_that_this_seed_would_give",
    "training.fsdp": f"{_LAUNCHING}::test_ranks_that_share_a_model_train_what_one_process_does",
    "training.bf16": f"{_SUPERVISED}::test_bf16_rounds_the_computation_but_not_what_is_trained",
    "training.fp16": f"{_ARGUMENTS}::test_fp16_reaches_the_trainer",
    "measures.task": f"{_PROBING}::test_a_task_is_answered_by_the_likeliest_of_its_labels",
    "measures.prompts": f"{_PROBING}::test_as_many_prompts_are_answered_with_as_many_samples_as_are_asked_for",
    "measures.samples": f"{_PROBING}::test_as_many_prompts_are_answered_with_as_many_samples_as_are_asked_for",
    "measures.names": f"{_MEASURING}::test_only_the_measures_that_are_named_are_told",
    "measures.dataset": f"{_MEASURING}::test_a_data_set_of_its_own_is_measured",
    "measures.anchor": f"{_GUARDING}::test_the_anchor_is_measured_beside_the_text_of_the_task",
    "measures.plots": f"{_PICTURES}::test_each_measured_checkpoint_is_one_point_of_each_picture",
    "measures.guards": f"{_GUARDING}::test_a_guard_stops_a_step_at_its_checkpoint_and_keeps_the_best",
    "measures.checkpoints": f"{_LATER}::test_a_checkpoint_of_an_earlier_job_is_worth_what_it_was_when_it_was_made",
    "measures.base": f"{_PIPELINE}::test_checkpoints_are_compared_with_the_jobs_first_model_or_with_their_own_steps",
    "measures.every": f"{_MEASURING}::test_every_nth_checkpoint_is_measured_and_the_last_always",
    "measures.max_documents": f"{_MEASURING}::test_a_sample_of_documents_is_measured",
    "measures.train_documents": f"{_MEASURING}::test_training_rows_stand_in_with_a_notice_where_nothing_is_held_out",
    "export.adapter_only": f"{_EXPORTING}::test_an_adapter_is_exported_by_itself_when_asked",
    "export.dtype": f"{_EXPORTING}::test_the_type_of_the_files_is_kept_or_the_one_that_is_asked_for",
    "export.overwrite": f"{_EXPORTING}::test_an_export_that_is_there_is_replaced_only_when_asked",
    "export.certificate_documents": f"{_EXPORTING}::test_certificate_documents_bounds_the_text",
    "export.certificate_mean_kl": f"{_EXPORTING}::test_each_limit_fails_an_export_that_is_beyond_it",
    "export.certificate_max_kl": f"{_EXPORTING}::test_each_limit_fails_an_export_that_is_beyond_it",
    "resources.queue": f"{_JOBS}::test_a_worker_claims_from_its_own_queues_alone",
    "resources.gpus": f"{_LAUNCHING}::test_two_ranks_train_what_one_process_does_with_the_same_rows_in_each_update",
    "resources.gpu_memory_fraction": f"{_CHILD}::test_a_job_that_shares_its_gpus_keeps_to_its_part_of_their_memory",
    "resources.priority": f"{_JOBS}::test_jobs_are_claimed_by_priority_then_by_the_owners_share_then_by_age",
    "resources.max_lost": f"{_JOBS}::test_a_job_that_loses_its_worker_too_often_fails",
    "resources.max_retries": f"{_ENDINGS}::test_what_may_pass_is_tried_again_later_and_so_often",
    "resources.on_out_of_memory": f"{_ENDINGS}::test_half_the_batch_is_tried_once_with_the_global_batch_kept",
    "resources.max_seconds": f"{_LIMITS}::test_a_job_runs_for_so_long_over_all_its_attempts",
    "resources.deadline": f"{_LIMITS}::test_a_job_whose_deadline_comes_ends_wherever_it_is",
    "resources.artifacts_ttl_seconds": f"{_RETENTION}::test_what_an_ended_job_made_goes_when_its_time_is_over",
}
