"""What a Prometheus and a Grafana are given to watch a plan's rollout with: alert rules and a dashboard."""
