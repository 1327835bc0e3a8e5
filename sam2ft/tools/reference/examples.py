"""Examples of keys whose default says little: a line of a file, which tests load over the smallest file of its kind.

A key without an entry of its own is shown by that of a section around it, else by its default.
"""

from collections.abc import Mapping

EXPERIMENT: Mapping[str, str] = {
    "experiment": "experiment: {name: knee_lr, description: learning rate for knee cartilage, seed: 1}",
    "experiment.baseline": "experiment: {baseline: false}",
    "dataset": "dataset: {knee: {store: data/knee}}",
    "dataset.*.fold": "dataset: {knee: {store: data/knee, fold: 2}}",
    "datamodule.max_subject_set": "datamodule: {max_subject_set: 10}",
    "datamodule.balanced": "datamodule: {balanced: true}",
    "datamodule.bbox_shift": "datamodule: {bbox_shift: 2}",
    "datamodule.batch_size": "datamodule: {batch_size: 1}",
    "datamodule.num_workers": "datamodule: {num_workers: 8}",
    "datamodule.augmentation": "datamodule: {augmentation: [{type: RandFlip, prob: 0.5, spatial_axis: 1}]}",
    "datamodule.num_classes": "datamodule: {num_classes: 7}",
    "datamodule.stats_metadata_file": "datamodule: {stats_metadata_file: metadata_for_stats.json}",
    "datamodule.metric.func": "datamodule: {metric: {func: {dice: true, hd95: true, assd: true, nsd: true}}}",
    "datamodule.metric.tissues": "datamodule: {metric: {tissues: [1, 2, 3]}}",
    "datamodule.metric.dicom_fields": (
        "datamodule: {metric: {dicom_fields: [pixel_spacing, slice_thickness, rows, columns, echo_time]}}"
    ),
    "datamodule.metric.representative_slice": "datamodule: {metric: {representative_slice: false}}",
    "datamodule.metric.t2_upper_ms": "datamodule: {metric: {t2_upper_ms: 200}}",
    "datamodule.metric.t1rho_upper_ms": "datamodule: {metric: {t1rho_upper_ms: 300}}",
    "datamodule.metric.sensitivity": "datamodule: {metric: {sensitivity: true}}",
    "datamodule.metric.thickness_maps": "datamodule: {metric: {thickness_maps: true}}",
    "module.sam2_model_cfg": "module: {sam2_model_cfg: sam2.1_hiera_tiny}",
    "module.sam2_checkpoint": "module: {sam2_checkpoint: weights/sam2.1_hiera_tiny.pt}",
    "module.image_size": "module: {image_size: 512}",
    "module.lora": "module: {lora: {rank: 16, alpha: 32}, trainable: {image_encoder: false}}",
    "module.trainable.prompt_encoder": "module: {trainable: {prompt_encoder: true}}",
    "module.trainable.prompt_encoder.only": "module: {trainable: {image_encoder: {only: ['trunk.blocks.[89]', neck]}}}",
    "module.trainable.image_encoder": "module: {trainable: {image_encoder: false}}",
    "module.trainable.mask_decoder": "module: {trainable: {mask_decoder: {only: [output_upscaling]}}}",
    "module.loss.seg": "module: {loss: {seg: TverskyLoss, seg_args: {alpha: 0.3, beta: 0.7}}}",
    "module.loss.seg_args": "module: {loss: {seg: TverskyLoss, seg_args: {alpha: 0.3, beta: 0.7}}}",
    "module.loss.ce": "module: {loss: {ce: FocalLoss, ce_args: {gamma: 2.0}}}",
    "module.loss.ce_args": "module: {loss: {ce: BCE, ce_args: {pos_weight: 2.0}}}",
    "module.loss.seg_loss_weight": "module: {loss: {seg_loss_weight: 1.0, ce_loss_weight: 0.2}}",
    "module.loss.ce_loss_weight": "module: {loss: {seg_loss_weight: 1.0, ce_loss_weight: 0.2}}",
    "module.loss.frame": "module: {loss: {frame: decoder}}",
    "module.loss.iou_weight": "module: {loss: {iou_weight: 0.05}}",
    "module.optimizer.type": "module: {optimizer: {type: SGD, lr: 1e-3, momentum: 0.9}}",
    "module.optimizer.lr_scale": "module: {optimizer: {lr_scale: {image_encoder: 0.1}}}",
    "module.optimizer.layer_decay": "module: {optimizer: {layer_decay: 0.8}}",
    "module.optimizer.no_decay_norms": "module: {optimizer: {no_decay_norms: true}}",
    "module.scheduler": "module: {scheduler: {type: CosineAnnealingLR, T_max: 5000, interval: step, warmup_steps: 50}}",
    "module.scheduler.monitor": "module: {scheduler: {type: ReduceLROnPlateau, monitor: val_loss, patience: 5}}",
    "module.num_epochs": "module: {num_epochs: 50}",
    "module.max_skipped_steps": "module: {max_skipped_steps: 3}",
    "module.use_amp": "module: {use_amp: false}",
    "module.clip_grad": "module: {clip_grad: null}",
    "module.grad_accum": "module: {grad_accum: 4}",
    "module.early_stopping": "module: {early_stopping: {monitor: val_dice, mode: max, patience: 20, min_delta: 0.002}}",
    "module.early_stopping.enabled": "module: {early_stopping: {enabled: false}}",
    "module.prompts": "module: {prompts: {box: 0.5, point: 0.3, mask: 0.2, max_instances_per_slice: 8}}",
    "module.ema": "module: {ema: {decay: 0.99}}",
    "module.compile": "module: {compile: true}",
    "module.deterministic": "module: {deterministic: true}",
    "module.activation_checkpointing": "module: {activation_checkpointing: true}",
    "module.checkpoint.every_minutes": "module: {checkpoint: {every_minutes: 5}}",
    "module.checkpoint.keep": "module: {checkpoint: {keep: 5}}",
    "module.checkpoint.every_steps": "module: {checkpoint: {every_steps: 500}}",
    "module.checkpoint.every_epoch": "module: {checkpoint: {every_epoch: true}}",
    "module.use_wandb": "module: {use_wandb: true}",
    "module.wandb": "module: {wandb: {mode: offline, project: knee}}",
    "module.visualize": "module: {visualize: false}",
    "eval.split": "eval: {split: val}",
    "eval.instances": "eval: {instances: per_label}",
    "eval.protocol": "eval: {protocol: point}",
    "eval.points_k": "eval: {protocol: points, points_k: 5}",
    "eval.boxes_file": "eval: {protocol: boxes_file, boxes_file: boxes.csv}",
    "eval.propagate_seed": "eval: {protocol: propagate, propagate_seed: middle}",
    "eval.bbox_shift": "eval: {bbox_shift: 5}",
    "eval.direction": "eval: {bbox_shift: 5, direction: both}",
    "eval.include_empty_slices": "eval: {include_empty_slices: false}",
    "eval.missed_distance": "eval: {missed_distance: 50}",
    "eval.nsd_tolerance_mm": "eval: {nsd_tolerance_mm: 0.5}",
    "eval.prompt_chunk": "eval: {prompt_chunk: 16}",
    "eval.precision": "eval: {precision: fp32}",
    "eval.qc_slices": "eval: {qc_slices: 60}",
    "eval.plain_cells": "eval: {plain_cells: true}",
    "eval.encode_batch": "eval: {encode_batch: 8}",
    "eval.object_batch": "eval: {protocol: propagate, object_batch: 4}",
    "eval.dicom_seg": "eval: {dicom_seg: true}",
    "eval.dicom_seg_kind": "eval: {dicom_seg: true, dicom_seg_kind: labelmap}",
    "eval.dicom_sources": "eval: {dicom_seg: true, dicom_sources: [experiments/datasets/oai_knee.yaml]}",
    "eval.prompt_noise": "eval: {prompt_noise: {shifts: [0, 3, 6], seeds: [0, 1, 2, 3]}}",
    "resources": "resources: {nodes: 2, gpus_per_node: 4, tasks_per_node: 4, cpus_per_task: 6, mem_gb: 200, hours: 24}",
    "resources.eval": (
        "resources: {eval: {nodes: 1, tasks_per_node: 1, gpus_per_node: 1, cpus_per_task: 4, mem_gb: 32, hours: 2}}"
    ),
    "sweep.grid": "sweep: {grid: {module.optimizer.lr: [1e-3, 1e-4]}}",
    "sweep.grid.*.range": "sweep: {grid: {module.num_epochs: {range: {start: 10, stop: 35, step: 10}}}}",
    "sweep.grid.*.logrange": "sweep: {grid: {module.optimizer.lr: {logrange: {start: 1e-5, stop: 1e-3, num: 5}}}}",
    "sweep.zip": "sweep: {zip: {module.image_size: [256, 512], datamodule.batch_size: [8, 2]}}",
    "sweep.list": "sweep: {list: [{}, {module.ema: {decay: 0.999}}, {module.grad_accum: 4}]}",
    "sweep.random": (
        "sweep: {random: {num: 8, seed: 1, method: sobol, parameters: {module.clip_grad: {uniform: [0.5, 2]}}}}"
    ),
    "sweep.random.parameters": (
        "sweep: {random: {num: 8, parameters: {module.optimizer.lr: {loguniform: [1e-5, 1e-3]}}}}"
    ),
    "sweep.random.parameters.*.uniform": (
        "sweep: {random: {num: 8, parameters: {module.clip_grad: {uniform: [0.5, 2]}}}}"
    ),
    "sweep.random.parameters.*.int": "sweep: {random: {num: 8, parameters: {datamodule.batch_size: {int: [1, 8]}}}}",
    "sweep.random.parameters.*.choice": (
        "sweep: {random: {num: 8, parameters: {module.optimizer.type: {choice: [AdamW, SGD]}}}}"
    ),
    "sweep.random.parameters.*.if": (
        "sweep: {random: {num: 8, parameters: {module.optimizer.type: {choice: [AdamW, SGD]}, "
        "module.optimizer.momentum: {uniform: [0.5, 0.99], if: {module.optimizer.type: SGD}}}}}"
    ),
    "sweep.when": (
        "sweep: {grid: {module.optimizer.type: [AdamW, SGD]}, "
        "when: [{if: {module.optimizer.type: SGD}, grid: {module.optimizer.momentum: [0, 0.9]}}]}"
    ),
    "sweep.when[].zip": (
        "sweep: {grid: {module.optimizer.type: [AdamW, SGD]}, "
        "when: [{if: {module.optimizer.type: SGD}, zip: {module.optimizer.momentum: [0, 0.9]}}]}"
    ),
    "sweep.when[].list": (
        "sweep: {grid: {module.optimizer.type: [AdamW, SGD]}, "
        "when: [{if: {module.optimizer.type: SGD}, list: [{}, {module.optimizer.momentum: 0.9}]}]}"
    ),
    "sweep.seeds": "sweep: {seeds: 3}",
    "sweep.exclude": (
        "sweep: {grid: {module.grad_accum: [1, 4], datamodule.batch_size: [2, 4]}, "
        "exclude: [{module.grad_accum: 4, datamodule.batch_size: 4}]}"
    ),
    "sweep.include": (
        "sweep: {grid: {module.grad_accum: [1, 2]}, include: [{module.grad_accum: 4, module.num_epochs: 50}]}"
    ),
    "sweep.points": "sweep: {points: {plain: {}, large: {module.image_size: 512}}}",
    "sweep.overrides": (
        "sweep: {grid: {module.image_size: [256, 512]}, "
        "overrides: [{if: {module.image_size: 512}, set: {resources.mem_gb: 128}}]}"
    ),
}

DATASET: Mapping[str, str] = {
    "slice_axis": "slice_axis: sagittal",
    "believe": "believe: sform",
    "channel": "channel: 0",
    "mask_channel": "mask_channel: 0",
    "spacing_mm": "spacing_mm: [3.0, 0.5, 0.5]",
    "axes": "axes: zyx",
    "array": "array: imgs",
    "mask_array": "mask_array: gts",
    "irregular": "irregular: resample",
    "folders": "folders: strict",
    "grid": "grid: lattice",
    "grid.snap_mm": "grid: {snap_mm: 0.1}",
    "overlaps": "overlaps: first",
    "segment_from": "segment_from: 0.3",
    "series": 'series: {description: "*sag*pd*", plane: sagittal}',
    "series.number": "series: {number: 5}",
    "series.echo_ms": "series: {echo_ms: 10}",
    "series.part": "series: {part: magnitude}",
    "series.phase": "series: {phase: 2}",
    "series.tags": 'series: {tags: {EchoNumbers: 1, SequenceName: "*tse*"}}',
    "sources.maps.*.select": 'sources: {maps: {t2: {series: "exam/{subject}", select: {part: magnitude}}}}',
    "max_volume_gb": "max_volume_gb: 8",
    "dataset": "dataset: {name: oai_knee, anatomy: knee, modality: MRI}",
    "sources.images": 'sources: {images: "dicom/{subject}/{volume}"}',
    "sources.masks": 'sources: {masks: "masks/{subject}.nii.gz"}',
    "sources.layout": "sources: {layout: {nnunet: nnUNet_raw/Dataset001_Knee, fold: 0}}",
    "sources.layout.nnunet": "sources: {layout: {nnunet: nnUNet_raw/Dataset001_Knee}}",
    "sources.layout.datalist": "sources: {layout: {datalist: Task09_Spleen/dataset.json}}",
    "sources.layout.bids": "sources: {layout: {bids: study, suffix: T2w}}",
    "sources.layout.fold": "sources: {layout: {nnunet: nnUNet_raw/Dataset001_Knee, fold: 0}}",
    "sources.layout.splits": "sources: {layout: {nnunet: Dataset001_Knee, fold: 0, splits: splits_final.json}}",
    "sources.layout.channel": "sources: {layout: {nnunet: nnUNet_raw/Dataset002_Brain, channel: T2}}",
    "sources.layout.suffix": "sources: {layout: {bids: study, suffix: T2w}}",
    "sources.layout.entities": "sources: {layout: {bids: study, suffix: T2w, entities: {acq: sag, desc: manual}}}",
    "sources.subject": (
        'sources: {images: "images/{site}/{id}.nii.gz", masks: "masks/{site}/{id}.nii.gz", subject: "{site}-{id}"}'
    ),
    "sources.volume": (
        'sources: {images: "images/{subject}/{session}/{side}.nii.gz", '
        'masks: "masks/{subject}/{session}/{side}.nii.gz", volume: "{session}-{side}"}'
    ),
    "sources.keep_covariates": "sources: {images: cases.csv, keep_covariates: [site, age, sex]}",
    "sources.maps": 'sources: {maps: {t2: "t2/{subject}.nii.gz"}}',
    "sources.maps.*.file": (
        'sources: {maps: {t2: {file: "t2/{subject}.nii.gz", unit: s, resample: true, optional: true}}}'
    ),
    "sources.maps.*.series": (
        'sources: {maps: {t1rho: {series: "t1rho/{subject}", spin_lock_ms: [0, 10, 40, 80], '
        "skip_first: true, bounds_ms: [0, 300], r2_min: 0.8}}}"
    ),
    "labels": "labels: {1: {name: femoral cartilage, interface: femur}, 5: {name: femur}}",
    "labels.*.vertebra": "labels: {1: {name: disc, vertebra: vertebra}, 2: {name: vertebra}}",
    "labels.*.merge": "labels: {1: {name: patella, merge: [1, 17]}}",
    "labels_dropped": "labels_dropped: [8, 9]",
    "labelled": "labelled: {subject_07: [femur, 3]}",
    "instances": "instances: {source: as_given, min_mm3: 20}",
    "intensity.clip_percentiles": "intensity: {clip_percentiles: [1, 99]}",
    "intensity.window": "intensity: {window: [-160, 240]}",
    "intensity.zscore": "intensity: {zscore: [-3, 3]}",
    "split.folds": "split: {test: 0.15, folds: 5, seed: 1}",
    "split.stratify": "split: {test: 0.15, folds: 5, stratify: [site, age]}",
    "split.group": "split: {test: 0.15, folds: 5, group: family}",
    "split.fold": "split: {file: splits_final.json, fold: 0}",
    "split": "split: {train: 0.6, val: 0.2, test: 0.2, seed: 1}",
    "split.file": "split: {file: splits.json}",
    "keep": "keep: [SeriesDescription, PatientSex]",
    "subject_id": "subject_id: hash",
    "subject_key": "subject_key: keys/knee.key",
    "subject_table": "subject_table: names.csv\nsubject_id: table",
}

SITE: Mapping[str, str] = {
    "site": "site: {name: mine, cluster_name: bigcluster, description: the GPU nodes of our university}",
    "slurm.partition": "slurm: {partition: gpu}",
    "slurm.account": "slurm: {account: lab}",
    "slurm.qos": "slurm: {qos: normal}",
    "slurm.constraint": "slurm: {constraint: a100}",
    "slurm.exclude": "slurm: {exclude: node07}",
    "slurm.reservation": "slurm: {reservation: course}",
    "slurm.gpu_option": "slurm: {gpu_option: gres}",
    "slurm.gpu_memory_gb": "slurm: {gpu_memory_gb: 40}",
    "slurm.wckey": "slurm: {wckey: knee}",
    "slurm.modules": "slurm: {modules: [cuda/12.4]}",
    "slurm.environment": 'slurm: {environment: {HF_HUB_OFFLINE: "1"}}',
    "slurm.setup": "slurm: {setup: [ulimit -c 0]}",
    "slurm.python": "slurm: {python: /shared/venv/bin/python}",
    "slurm.container": "slurm: {container: apptainer exec --nv sam2ft.sif}",
    "slurm.scratch": "slurm: {scratch: /scratch/$USER/$SLURM_JOB_ID}",
    "slurm.mail": "slurm: {mail: ada@example.org}",
    "slurm.max_parallel": "slurm: {max_parallel: 16}",
    "slurm.max_restarts": "slurm: {max_restarts: 5}",
    "slurm.stop_lead_s": "slurm: {stop_lead_s: 300}",
    "resources": "resources: {nodes: 1, tasks_per_node: 1, gpus_per_node: 1, cpus_per_task: 4, mem_gb: 100, hours: 24}",
    "report": "report: {partition: cpu, qos: normal, cpus_per_task: 2, mem_gb: 8, hours: 0.5}",
}
