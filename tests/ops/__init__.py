"""What the person needs who is woken at night: metrics, alerts, the dashboard, health and logs."""
