"""What people read: tables, figures and the recommendation in words."""
