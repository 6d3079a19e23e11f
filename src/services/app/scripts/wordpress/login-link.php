<?php
require_once ABSPATH . 'wp-includes/pluggable.php';
$name = $fanout['admin'];
$users = get_users($name === ''
    ? ['role' => 'administrator', 'number' => 1, 'orderby' => 'ID', 'order' => 'ASC']
    : ['login' => $name, 'number' => 1]);
if (!$users) {
    fanout_end(['error' => $name === '' ? 'There is no administrator' : "There is no user `$name`"]);
}
$key = get_password_reset_key($users[0]);
if (is_wp_error($key)) {
    fanout_end(['error' => $key->get_error_message()]);
}
fanout_end([
    'changed' => true,
    'message' => 'it works once and asks for a new password',
    'link' => network_site_url(
        'wp-login.php?action=rp&key=' . $key . '&login=' . rawurlencode($users[0]->user_login),
        'login'
    ),
]);
