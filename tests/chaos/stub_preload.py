"""Loaded by the fork server alone: importing it puts known work in the place of training, in that process and its forks."""

from tests.chaos.stub_work import take_the_place_of_training

take_the_place_of_training()
