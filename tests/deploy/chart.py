"""The chart, and the sets of values that tests try it with."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testing.tools import require

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/charts/hami-daemon"
OPERATOR = (
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)
EVERYTHING = (
    "podMonitor.enabled=true",
    "podMonitor.labels.release=prometheus",
    "networkPolicy.enabled=true",
    "networkPolicy.from[0].namespaceSelector.matchLabels.team=monitoring",
    "dashboards.annotations.team=gpu",
    "prometheusRule.labels.release=prometheus",
    "serviceMonitor.labels.release=prometheus",
    "serviceMonitor.endpoint.scheme=https",
    "serviceMonitor.endpoint.tlsConfig.insecureSkipVerify=true",
    "daemon.runtimeClassName=nvidia",
    "daemon.vgpuMonitor.webConfigSecret=web",
    "daemon.vgpuMonitor.extraArgs[0]=--process-metrics",
    "daemon.vgpuMonitor.extraEnv[0].name=HTTPS_PROXY",
    "daemon.vgpuMonitor.extraEnv[0].value=proxy:3128",
    "daemon.vgpuMonitor.extraVolumeMounts[0].name=more",
    "daemon.vgpuMonitor.extraVolumeMounts[0].mountPath=/more",
    "daemon.extraVolumes[0].name=more",
    "daemon.extraVolumes[0].configMap.name=more",
    "daemon.imagePullSecrets[0].name=registry",
    "daemon.priorityClassName=system-node-critical",
    "daemon.nodeSelector.pool=gpu",
    "daemon.podAnnotations.team=gpu",
    "daemon.podLabels.team=gpu",
    "daemon.securityContext.fsGroup=1",
    "daemon.updateStrategy.rollingUpdate.maxUnavailable=10%",
    "service.annotations.team=gpu",
    "serviceMonitor.scrapeTimeout=10s",
    "serviceMonitor.jobLabel=koord-app",
    "serviceMonitor.relabelings[0].targetLabel=team",
    "serviceMonitor.relabelings[0].replacement=gpu",
    "serviceMonitor.metricRelabelings[0].action=labeldrop",
    "serviceMonitor.metricRelabelings[0].regex=zone",
    "podMonitor.jobLabel=team",
    "prometheusRule.runbookUrl=https://wiki/runbooks",
    "prometheusRule.thresholds.memory_near_limit=0.9",
    "prometheusRule.alerts.VgpuIdle.enabled=false",
    "prometheusRule.alerts.VgpuCardMemoryFull.for=1h",
    "prometheusRule.alerts.VgpuCardMemoryFull.severity=info",
    "dashboards.folder=GPU",
)
OFF = ("daemon.vgpuMonitor.enabled=false",)
MONITOR_ONLY = ("daemon.hamiCore.enabled=false",)
#: Objects in another namespace, on the node's network, with an account and a registry of one's own.
ELSEWHERE = (
    "daemon.hostNetwork=true",
    "daemon.dnsPolicy=ClusterFirstWithHostNet",
    "daemon.serviceAccount.name=gpu",
    "daemon.serviceAccount.annotations.team=gpu",
    "service.labels.team=gpu",
    "service.internalTrafficPolicy=Local",
    "serviceMonitor.namespace=kube-system",
    "serviceMonitor.honorLabels=false",
    "podMonitor.enabled=true",
    "podMonitor.namespace=kube-system",
    "prometheusRule.namespace=kube-system",
    "dashboards.namespace=kube-system",
    "global.imageRegistry=registry.test:5000/mirror",
    "global.imagePullSecrets[0]=one",
    "global.imagePullSecrets[1].name=two",
)
READ_ONLY = ("daemon.vgpuMonitor.feedback=false", "daemon.vgpuMonitor.gc=false")

Object = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require("helm"), *arguments], capture_output=True, text=True, check=False
    )


def assignments(values: Sequence[str]) -> list[str]:
    return [argument for value in values for argument in ("--set", value)]
