<?php
$storage = \Drupal::entityTypeManager()->getStorage('user');
$account = $fanout['admin'] === ''
    ? $storage->load(1)
    : current($storage->loadByProperties(['name' => $fanout['admin']]));
if (!$account) {
    fanout_end(['error' => 'There is no such user']);
}
fanout_end(['changed' => true, 'message' => 'it works once', 'link' => user_pass_reset_url($account) . '/login']);
