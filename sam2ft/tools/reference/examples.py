"""Examples of keys whose default says little: a line of a file, which tests load over the smallest file of its kind.

A key without an entry of its own is shown by that of a section around it, else by its default.
"""

from collections.abc import Mapping

EXPERIMENT: Mapping[str, str] = {
    "experiment": "experiment: {name: knee_lr, description: learning rate for knee cartilage, seed: 42}",
    "experiment.baseline": "experiment: {baseline: false}",
    "dataset": "dataset: {knee: {store: data/knee}}",
    "datamodule.max_subject_set": "datamodule: {max_subject_set: 10}",
    "datamodule.balanced": "datamodule: {balanced: true}",
    "datamodule.augmentation": "datamodule: {augmentation: [{type: RandFlip, prob: 0.5, spatial_axis: 1}]}",
    "datamodule.num_classes": "datamodule: {num_classes: 7}",
    "datamodule.stats_metadata_file": "datamodule: {stats_metadata_file: metadata_for_stats.json}",
    "datamodule.metric.func": "datamodule: {metric: {func: {dice: true, hd95: true, assd: true, nsd: true}}}",
    "datamodule.metric.tissues": "datamodule: {metric: {tissues: [1, 2, 3]}}",
    "datamodule.metric.t2_upper_ms": "datamodule: {metric: {t2_upper_ms: 200}}",
    "datamodule.metric.sensitivity": "datamodule: {metric: {sensitivity: true}}",
    "datamodule.metric.thickness_maps": "datamodule: {metric: {thickness_maps: true}}",
    "module.sam2_model_cfg": "module: {sam2_model_cfg: sam2.1_hiera_tiny}",
    "module.sam2_checkpoint": "module: {sam2_checkpoint: weights/sam2.1_hiera_tiny.pt}",
    "module.lora": "module: {lora: {rank: 8, alpha: 16}, trainable: {image_encoder: false}}",
    "module.trainable.prompt_encoder": "module: {trainable: {prompt_encoder: true}}",
    "module.trainable.prompt_encoder.only": "module: {trainable: {image_encoder: {only: ['trunk.blocks.[89]', neck]}}}",
    "module.trainable.image_encoder": "module: {trainable: {image_encoder: false}}",
    "module.loss.seg": "module: {loss: {seg: TverskyLoss, seg_args: {alpha: 0.3, beta: 0.7}}}",
    "module.loss.seg_args": "module: {loss: {seg: TverskyLoss, seg_args: {alpha: 0.3, beta: 0.7}}}",
    "module.loss.ce": "module: {loss: {ce: BCE, ce_args: {pos_weight: 2.0}}}",
    "module.loss.ce_args": "module: {loss: {ce: BCE, ce_args: {pos_weight: 2.0}}}",
    "module.loss.iou_weight": "module: {loss: {iou_weight: 0.05}}",
    "module.optimizer.type": "module: {optimizer: {type: AdamW, lr: 1e-4, weight_decay: 0.01}}",
    "module.optimizer.lr_scale": "module: {optimizer: {lr_scale: {image_encoder: 0.1}}}",
    "module.optimizer.layer_decay": "module: {optimizer: {layer_decay: 0.8}}",
    "module.optimizer.no_decay_norms": "module: {optimizer: {no_decay_norms: true}}",
    "module.scheduler": "module: {scheduler: {type: CosineAnnealingLR, T_max: 50, interval: epoch, warmup_steps: 100}}",
    "module.scheduler.monitor": "module: {scheduler: {type: ReduceLROnPlateau, monitor: val_loss, patience: 5}}",
    "module.use_amp": "module: {use_amp: false}",
    "module.clip_grad": "module: {clip_grad: null}",
    "module.grad_accum": "module: {grad_accum: 4}",
    "module.early_stopping": "module: {early_stopping: {monitor: val_dice, mode: max, patience: 10, min_delta: 0.001}}",
    "module.early_stopping.enabled": "module: {early_stopping: {enabled: false}}",
    "module.prompts": "module: {prompts: {box: 0.5, point: 0.3, mask: 0.2, max_instances_per_slice: 16}}",
    "module.ema": "module: {ema: {decay: 0.999}}",
    "module.compile": "module: {compile: true}",
    "module.deterministic": "module: {deterministic: true}",
    "module.activation_checkpointing": "module: {activation_checkpointing: true}",
    "module.checkpoint.every_steps": "module: {checkpoint: {every_steps: 500}}",
    "module.checkpoint.every_epoch": "module: {checkpoint: {every_epoch: true}}",
    "module.use_wandb": "module: {use_wandb: true}",
    "module.wandb": "module: {wandb: {mode: offline, project: knee}}",
    "module.visualize": "module: {visualize: false}",
    "eval.split": "eval: {split: val}",
    "eval.instances": "eval: {instances: per_label}",
    "eval.protocol": "eval: {protocol: point}",
    "eval.points_k": "eval: {protocol: points, points_k: 3}",
    "eval.boxes_file": "eval: {protocol: boxes_file, boxes_file: boxes.csv}",
    "eval.propagate_seed": "eval: {protocol: propagate, propagate_seed: middle}",
    "eval.bbox_shift": "eval: {bbox_shift: 5}",
    "eval.direction": "eval: {bbox_shift: 5, direction: both}",
    "eval.include_empty_slices": "eval: {include_empty_slices: false}",
    "eval.missed_distance": "eval: {missed_distance: 50}",
    "eval.encode_batch": "eval: {encode_batch: 8}",
    "eval.object_batch": "eval: {protocol: propagate, object_batch: 4}",
    "eval.dicom_seg": "eval: {dicom_seg: true}",
    "eval.dicom_sources": "eval: {dicom_seg: true, dicom_sources: [experiments/datasets/knee.yaml]}",
    "eval.prompt_noise": "eval: {prompt_noise: {shifts: [0, 2, 5], seeds: [0, 1, 2]}}",
    "resources": "resources: {nodes: 1, gpus_per_node: 1, tasks_per_node: 1, cpus_per_task: 8, mem_gb: 64, hours: 12}",
    "resources.eval": (
        "resources: {eval: {nodes: 1, tasks_per_node: 1, gpus_per_node: 1, cpus_per_task: 4, mem_gb: 32, hours: 2}}"
    ),
    "sweep.grid": "sweep: {grid: {module.optimizer.lr: [1e-3, 1e-4]}}",
    "sweep.grid.*.range": "sweep: {grid: {module.num_epochs: {range: {start: 10, stop: 35, step: 10}}}}",
    "sweep.grid.*.logrange": "sweep: {grid: {module.optimizer.lr: {logrange: {start: 1e-5, stop: 1e-3, num: 5}}}}",
    "sweep.zip": "sweep: {zip: {module.image_size: [256, 512], datamodule.batch_size: [8, 2]}}",
    "sweep.list": "sweep: {list: [{}, {module.ema: {decay: 0.999}}, {module.grad_accum: 4}]}",
    "sweep.random": (
        "sweep: {random: {num: 8, seed: 0, method: sobol, parameters: {module.clip_grad: {uniform: [0.5, 2]}}}}"
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
    "irregular": "irregular: resample",
    "max_volume_gb": "max_volume_gb: 8",
    "dataset": "dataset: {name: oai_knee, anatomy: knee}",
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
    "instances": "instances: {source: as_given, min_mm3: 20}",
    "intensity.window": "intensity: {window: [-160, 240]}",
    "intensity.zscore": "intensity: {zscore: [-3, 3]}",
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
    "resources": "resources: {nodes: 1, tasks_per_node: 1, gpus_per_node: 1, cpus_per_task: 8, mem_gb: 64, hours: 12}",
    "report": "report: {partition: cpu, qos: normal, cpus_per_task: 1, mem_gb: 4, hours: 0.5}",
}
