{{/* What all pods have alike: the restricted security level, no token, and where they may run. No user: the cluster chooses one. */}}

{{- define "shop.podSecurity" -}}
runAsNonRoot: true
{{- with . }}
runAsUser: {{ include "shop.text" . }}
runAsGroup: {{ include "shop.text" . }}
fsGroup: {{ include "shop.text" . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "shop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "shop.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A service's way to its schema: the password comes from the Secret, and Kubernetes puts it into the address. */}}
{{- define "shop.databaseEnv" -}}
- name: DATABASE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "shop.secretName" .root | quote }}
      key: {{ .short }}-service-password
- name: DATABASE_URL
  value: postgresql+psycopg2://{{ .short }}_service:$(DATABASE_PASSWORD)@{{ include "shop.databaseHost" . }}:{{ include "shop.text" .root.Values.database.port }}/{{ .root.Values.database.name }}{{ with .root.Values.database.sslmode }}?sslmode={{ . }}{{ end }}
{{- end }}

{{- define "shop.keyEnv" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "shop.secretName" .root | quote }}
      key: {{ .key }}
{{- end }}
