"""What an operator on call needs: metrics, alerts, the dashboard, health and logs."""
