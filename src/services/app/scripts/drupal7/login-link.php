<?php
$account = $fanout['admin'] === '' ? user_load(1) : user_load_by_name($fanout['admin']);
if (!$account) {
    fanout_end(['error' => 'There is no such user']);
}
fanout_end(['changed' => true, 'message' => 'it works once', 'link' => user_pass_reset_url($account) . '/login']);
