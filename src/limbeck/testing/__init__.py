"""Contracts that every part keeps; public, so that other packages can hold their own parts to them."""

from limbeck.testing.loss import check_loss as check_loss
from limbeck.testing.model import check_model as check_model
from limbeck.testing.outputs import Outputs as Outputs
from limbeck.testing.outputs import example_outputs as example_outputs
from limbeck.testing.outputs import outputs_for as outputs_for
from limbeck.testing.task import check_task as check_task
from limbeck.testing.teacher import check_teacher as check_teacher
