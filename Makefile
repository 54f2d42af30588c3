# The verbs of a checkout. Each recipe is one line: what it does stands in scripts/ or in the `airgate` command.
SHELL := /bin/bash
AIRGATE := scripts/airgate
.DEFAULT_GOAL := help
.PHONY: help install demo up down status logs test test-kubernetes test-faults cluster-demo check lock new-model audit mlflow

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)$$/  \1|\2/' | awk -F"|" '{printf "%-12s %s\n", $$1, $$2}'

install: ## make .venv from the locks (the other verbs do it when needed)
	@scripts/install

demo: install ## fly a model's whole life through a running Airflow; INTERACTIVE=1 lets you approve in the UI
	@$(AIRGATE) demo $(if $(filter-out 0,$(INTERACTIVE)),--interactive)

cluster-demo: install ## the same with its steps as pods; KUBECONFIG names the cluster, AIRGATE_STEPS_IMAGE the image
	@AIRGATE_HOME=$${AIRGATE_HOME:-.airgate-cluster} $(AIRGATE) demo --cluster $(if $(filter-out 0,$(INTERACTIVE)),--interactive)

up: install ## start Airflow, MLflow and PostgreSQL on this machine
	@$(AIRGATE) up

down: ## stop what `make up` or `make demo` started, and nothing else
	@$(AIRGATE) down

status: ## what runs, how it is, and where
	@$(AIRGATE) status

logs: ## follow the processes' logs
	@scripts/logs

test: install ## all tests: units first, then the flights through a real Airflow
	@scripts/test

test-kubernetes: install ## tests on a cluster: KUBECONFIG names it, AIRGATE_TEST_STEPS_IMAGE the steps' image there
	@scripts/test-kubernetes "kubernetes and not outage"

test-faults: install ## what breaks around a run on a cluster of this machine: its API server, its kubelet, parts of Airflow
	@scripts/test-kubernetes "outage" -s

check: install ## style, types and import rules, in seconds
	@scripts/check

lock: install ## compile the locks anew from the .in files
	@scripts/lock

new-model: install ## make a model that trains: make new-model NAME=churn
	@$(AIRGATE) new-model $(if $(NAME),"$(NAME)",$(error say its name: make new-model NAME=churn))

audit: install ## verify the audit log: integrity, signatures and completeness
	@$(AIRGATE) audit verify --complete --anchors

mlflow: up ## where MLflow's pages are
	@$(AIRGATE) status | grep -o 'MLflow http.*'
