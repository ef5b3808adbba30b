"""Where attempts execute. An engine carries an order and its capsule to the far side, and brings the outcome back."""
