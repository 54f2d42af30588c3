{{/* Labels of everything that this chart makes itself. Give a dict with `root` and `component`. */}}
{{- define "airgate.labels" -}}
app.kubernetes.io/name: airgate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "airgate.stepsNamespace" -}}
{{- .Values.steps.namespace | default (printf "%s-steps" .Release.Namespace) -}}
{{- end }}

{{/* The image of Airflow's components, as the official chart composes it. */}}
{{- define "airgate.airflowImage" -}}
{{- with .Values.airflow -}}
{{- if .defaultAirflowDigest -}}
{{ .defaultAirflowRepository }}@{{ .defaultAirflowDigest }}
{{- else -}}
{{ .defaultAirflowRepository }}:{{ .defaultAirflowTag }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What the `restricted` Pod Security Standard asks. Give the user's number. */}}
{{- define "airgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ if eq (int .) 50000 }}0{{ else }}{{ . }}{{ end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "airgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A Job's head. Give a dict with `root`, `component`, `weight` and `when`, the hook's moments. */}}
{{- define "airgate.job" -}}
{{- $name := printf "airgate-%s" .component -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- if .root.Values.hooks }}
  name: {{ $name }}
  annotations:
    helm.sh/hook: {{ .when }}
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  {{- else }}
  {{- /* A Job cannot be changed: another version or another setting is another Job. */}}
  name: {{ printf "%s-%s" $name (toJson .root.Values | sha256sum | trunc 8) }}
  {{- end }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "airgate.labels" . | nindent 4 }}
{{- end }}

{{/* What is the same in all pods of jobs. They get no token. */}}
{{- define "airgate.jobPod" -}}
restartPolicy: OnFailure
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "airgate.podSecurity" 50000 | nindent 2 }}
volumes:
  - {name: scratch, emptyDir: {}}
{{- end }}

{{- define "airgate.jobContainer" -}}
image: {{ include "airgate.airflowImage" . }}
imagePullPolicy: IfNotPresent
securityContext: {{- include "airgate.containerSecurity" . | nindent 2 }}
resources: {{- toYaml .Values.jobs.resources | nindent 2 }}
volumeMounts:
  - {name: scratch, mountPath: /tmp}
{{- end }}

{{/* How the release's namespace is known to a NetworkPolicy of another one, as JSON. */}}
{{- define "airgate.releaseNamespaceLabels" -}}
{{- .Values.network.releaseNamespaceLabels | default (dict "kubernetes.io/metadata.name" .Release.Namespace) | toJson -}}
{{- end }}
