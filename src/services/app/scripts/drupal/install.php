<?php
if (in_array('key_value', fanout_tables(fanout_database()), true)) {
    fanout_end(['message' => 'it is installed already', 'installed' => true]);
}
$fanout_loader = require $fanout['docroot'] . '/autoload.php';
require_once 'core/includes/install.core.inc';
$fanout_account = ['name' => $fanout['admin'], 'mail' => $fanout['mail'], 'pass' => [
    'pass1' => $fanout['password'], 'pass2' => $fanout['password'],
]];
install_drupal($fanout_loader, [
    'interactive' => false,
    'site_path' => 'sites/' . ($fanout['dir'] ?: 'default'),
    'parameters' => ['profile' => $fanout['profile'] ?: 'standard', 'langcode' => 'en'],
    'forms' => [
        'install_configure_form' => [
            'site_name' => $fanout['title'],
            'site_mail' => $fanout['mail'],
            'account' => $fanout_account,
            'enable_update_status_module' => null,
            'enable_update_status_emails' => null,
            'clean_url' => true,
        ],
    ],
]);
fanout_end(['changed' => true, 'message' => 'Drupal ' . \Drupal::VERSION . ' was installed']);
