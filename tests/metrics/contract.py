"""The metric contract, written down apart from the code: names, labels, help where the
contract gives it. metrics.md of the project is its source."""

from __future__ import annotations

_DOCUMENTED = ("podnamespace", "podname", "ctrname", "vdeviceid", "deviceuuid", "zone")
_HOST = ("nodeid", "deviceidx", "deviceuuid", "devicetype", "zone")
_HAMI_HOST = ("node", "device_index", "device_uuid", "device_type", "zone")
_HAMI = ("namespace", "pod", "container", "vdevice_index", "device_uuid", "zone")
_CONTAINER = ("namespace", "pod", "container")
_VGPU = (*_CONTAINER, "device_uuid")
_DEVICE = ("node", "device_uuid", "device_index")

DOCUMENTED_HELP = {
    "HostGPUMemoryUsage": "GPU device memory usage",
    "HostCoreUtilization": "GPU core utilization",
    "vGPU_device_memory_usage_in_bytes": "vGPU device usage",
    "vGPU_device_memory_limit_in_bytes": "vGPU device limit",
    "Device_memory_desc_of_container": "Container device memory description",
    "Device_utilization_desc_of_container": "Container device utilization description",
    "Device_last_kernel_of_container": "Container device last kernel description",
    "MigInfo": "Mig device information for container",
}

LABELS: dict[str, tuple[str, ...]] = {
    "HostGPUMemoryUsage": _HOST,
    "HostCoreUtilization": _HOST,
    "vGPU_device_memory_usage_in_bytes": _DOCUMENTED,
    "vGPU_device_memory_limit_in_bytes": _DOCUMENTED,
    "Device_memory_desc_of_container": (*_DOCUMENTED, "context", "module", "data", "offset"),
    "Device_utilization_desc_of_container": _DOCUMENTED,
    "Device_last_kernel_of_container": _DOCUMENTED,
    "MigInfo": (*_DOCUMENTED, "instanceid"),
    "hami_host_gpu_memory_used_bytes": _HAMI_HOST,
    "hami_host_gpu_utilization_ratio": _HAMI_HOST,
    "hami_host_gpu_memory_controller_utilization_ratio": _HAMI_HOST,
    "hami_vgpu_memory_used_bytes": _HAMI,
    "hami_vgpu_memory_limit_bytes": _HAMI,
    "hami_container_device_memory_bytes": _HAMI,
    "hami_container_device_utilization_ratio": _HAMI,
    "hami_container_last_kernel_elapsed_seconds": _HAMI,
    "hami_vgpu_memory_context_bytes": _HAMI,
    "hami_vgpu_memory_module_bytes": _HAMI,
    "hami_vgpu_memory_buffer_bytes": _HAMI,
    "hami_mig_device_info": (
        *_HAMI,
        "mig_uuid",
        "profile",
        "gpu_instance_id",
        "compute_instance_id",
    ),
    "vgpu_allocated_memory_bytes": ("namespace", "pod", "device_uuid", "device_minor"),
    "vgpu_allocated_core_ratio": ("namespace", "pod", "device_uuid", "device_minor"),
    "vgpu_memory_used_bytes": (*_VGPU, "kind"),
    "vgpu_memory_limit_bytes": _VGPU,
    "vgpu_core_limit_ratio": _VGPU,
    "vgpu_core_utilization_ratio": _VGPU,
    "vgpu_memory_nvml_bytes": _VGPU,
    "vgpu_processes": (*_CONTAINER, "state"),
    "vgpu_dead_process_memory_bytes": _VGPU,
    "vgpu_last_kernel_timestamp_seconds": _VGPU,
    "vgpu_priority": _VGPU,
    "vgpu_core_limit_enforced": _VGPU,
    "vgpu_launches_blocked": _VGPU,
    "vgpu_region_info": (*_CONTAINER, "layout"),
    "vgpu_process_memory_used_bytes": (*_VGPU, "pid", "host_pid"),
    "vgpu_process_core_utilization_ratio": (*_VGPU, "pid", "host_pid"),
    "vgpu_device_info": (*_DEVICE, "name", "driver_version", "cuda_version", "minor"),
    "vgpu_device_memory_total_bytes": _DEVICE,
    "vgpu_device_memory_used_bytes": _DEVICE,
    "vgpu_device_core_utilization_ratio": _DEVICE,
    "vgpu_device_power_watts": _DEVICE,
    "vgpu_device_temperature_celsius": _DEVICE,
    "vgpu_device_ecc_errors_total": (*_DEVICE, "kind"),
    "vgpu_device_throttled": (*_DEVICE, "reason"),
    "vgpu_device_memory_unattributed_bytes": (*_DEVICE, "namespace", "pod"),
    "vgpumonitor_build_info": ("version",),
    "vgpumonitor_collect_duration_seconds": ("part",),
    "vgpumonitor_regions": ("state",),
    "vgpumonitor_region_errors_total": ("reason",),
    "vgpumonitor_torn_reads_total": (),
    "vgpumonitor_pod_source_up": (),
    "vgpumonitor_pod_source_synced_timestamp_seconds": (),
    "vgpumonitor_watch_events_total": (),
    "vgpumonitor_nvml_up": (),
    "vgpumonitor_nvml_errors_total": ("call", "device_uuid"),
}

#: What this project serves beyond the contract; docs/metrics.md says why.
ADDED: dict[str, tuple[str, ...]] = {
    "vgpu_mig_device_info": (
        *_DEVICE,
        "mig_uuid",
        "profile",
        "gpu_instance_id",
        "compute_instance_id",
    ),
    "vgpu_mig_device_memory_total_bytes": (*_DEVICE, "mig_uuid"),
    "vgpu_mig_device_memory_used_bytes": (*_DEVICE, "mig_uuid"),
    "vgpumonitor_annotation_errors_total": ("annotation",),
    "vgpumonitor_feedback_rounds_total": (),
    "vgpumonitor_feedback_writes_total": ("field",),
    "vgpumonitor_feedback_failures_total": (),
    "vgpumonitor_feedback_last_round_timestamp_seconds": (),
    "vgpumonitor_gc_removed_total": (),
    "vgpumonitor_gc_failures_total": (),
    "vgpumonitor_gc_last_round_timestamp_seconds": (),
}
